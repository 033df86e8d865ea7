"""What is kept of sampling comes back bit for bit, or is refused; a process killed at any moment leaves it whole."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.commands import DecodeSettings, GenerateVideo
from engine.errors import EngineError, ErrorCode
from engine.generation import Given, SamplingSettings, Solver
from engine.model_choice import LoraUse
from engine.output.job_folder import STATE_FILE, JobFolder
from engine.output.kept_steps import KeptSteps, kept_steps
from engine.sampling import checkpoint
from engine.sampling.checkpoint import SamplingState, fingerprint, read_state, write_state
from engine.sampling.solvers import Past
from engine.sampling.step_cache import KeptPass
from engine.sampling.tensor_tree import kinds_of, put_together, take_apart
from tests.engine.sampling_states import is_whole, sampled, state_after

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.uint8,
          torch.bool)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remembered:
    """As a step cache may remember: numbers and tensors, nested."""

    passes: tuple[object, ...]
    total: float = 0.0
    by_name: object = None


KINDS = kinds_of(Past, KeptPass, Remembered)


def any_tensor(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Any bits at all: not a number, minus zero and subnormal ones among them."""
    count = dtype.itemsize * torch.Size(shape).numel()
    values = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return (values & 1 if dtype is torch.bool else values).view(dtype).reshape(shape)


tensors = st.builds(
    any_tensor, st.lists(st.integers(0, 3), max_size=4).map(tuple), st.sampled_from(DTYPES), st.integers(0, 9)
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
trees = st.recursive(
    plain | tensors,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
        | st.builds(Remembered, st.lists(inner, max_size=2).map(tuple), st.floats(), inner)
    ),
    max_leaves=8,
)


def same(one: object, other: object) -> bool:
    """Equal to the bit, of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        are_alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return are_alike and bytes(checkpoint._bytes(one)) == bytes(checkpoint._bytes(other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one))
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one.items()), list(other.items()))
    return repr(one) == repr(other)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "KINDS", KINDS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@for_all(tree=trees)
@pytest.mark.usefixtures("remembered")
def test_whatever_is_remembered_comes_back(tmp_path: Path, tree: object) -> None:
    state = dataclasses.replace(state_after(3, shape=(1, 2, 1, 2, 2)), cache=cast(Any, (tree,)))
    write_state(tmp_path / "state", state)
    found = read_state(tmp_path / "state", "job")
    assert same(found, state)
    found.x.add_(1)  # in memory of its own
    assert kept_steps(tmp_path / "state") == KeptSteps(3, 12)


def test_it_is_a_file_that_others_can_read(tmp_path: Path) -> None:
    state = state_after(5)
    write_state(tmp_path / "state.safetensors", state)
    stored = load_file(tmp_path / "state.safetensors")
    assert torch.equal(stored["0"], state.x)
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        assert file.metadata()["step"] == "5"
    assert [each.name for each in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_tensor_is_kept_once_and_views_are_kept_alone(tmp_path: Path) -> None:
    wide = torch.randn(64, 64)
    state = dataclasses.replace(state_after(1, shape=(1,)), past=Past(wide, (wide, wide[:, 3]), 1))
    write_state(tmp_path / "state", state)
    past = read_state(tmp_path / "state", "job").past
    assert past.sample is past.x0s[0]
    assert torch.equal(past.x0s[1], wide[:, 3])
    assert (tmp_path / "state").stat().st_size < wide.numel() * 4 + 2000


@dataclass
class Unknown:
    value: int = 0


@pytest.mark.parametrize("value", [Unknown(), {1}, Solver.EULER, torch.Generator(), 3 + 4j, b"x", range(3)], ids=repr)
def test_what_would_not_come_back_as_it_was_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        write_state(tmp_path / "state", dataclasses.replace(state_after(1), cache=cast(Any, (value,))))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "plan",
    [{"kind": "Past", "fields": {}}, {"kind": "Path", "fields": {"a": 1}}, {"tensor": 7}, {"tensor": -1}, {"x": 1}, [],
     {"kind": "Past", "fields": {"sample": None, "x0s": None, "order": 0, "more": 1}}, {"dict": 3}, {"tuple": "ab"},
     {"dict": {"list": [[1, 2]]}}],
)  # fmt: skip
def test_plans_that_were_never_made_are_refused(plan: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        put_together(plan, [torch.zeros(1)], KINDS)


def test_tensors_move_and_the_rest_stays() -> None:
    state = state_after(2)
    moved = state.to(torch.device("meta"))
    assert {moved.x.device.type, *(each.device.type for each in moved.past.x0s)} == {"meta"}
    assert (moved.past.order, moved.step, moved.fingerprint) == (state.past.order, 2, "job")
    assert take_apart(moved, kinds_of(SamplingState, Past))[0] == take_apart(state, kinds_of(SamplingState, Past))[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@for_all(data=st.data())
def test_any_changed_byte_is_refused_or_changes_nothing(tmp_path: Path, data: st.DataObject) -> None:
    """Nothing but a space in the head, or the number of a tensor, can change without a word."""
    file, state = tmp_path / "state", state_after(7, shape=(1, 2, 1, 3, 2))
    write_state(file, state)
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    told: list[object] = [ErrorCode.LATENTS_INVALID, str(file)]
    try:
        assert same(read_state(file, "job"), state)
    except EngineError as error:
        told = [error.code, error.details["file"]]
    assert told == [ErrorCode.LATENTS_INVALID, str(file)]


@pytest.mark.parametrize("left", [0, 1, 7, 8, 100, 1000, -1])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, left: int) -> None:
    write_state(tmp_path / "state", state_after(7))
    content = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(content[:left])
    for read in (kept_steps, lambda file: read_state(file, "job")):
        with pytest.raises(EngineError, match="is damaged") as caught:
            read(tmp_path / "state")
        assert caught.value.code is ErrorCode.LATENTS_INVALID


def refused(file: Path) -> str:
    with pytest.raises(EngineError) as caught:
        read_state(file, "job")
    assert caught.value.code is ErrorCode.LATENTS_INVALID
    return str(caught.value.details["reason"])


def test_what_is_foreign_of_another_version_or_of_another_job_is_told(tmp_path: Path) -> None:
    file = tmp_path / "state"
    save_file({"latents": torch.zeros(2)}, file, {"format": "tessera.latents.1"})
    assert "not what a job keeps" in refused(file)
    save_file({"0": torch.zeros(2)}, file, {"format": "tessera.sampling.2", "step": "1", "steps": "2"})
    assert "another version of this program ('tessera.sampling.2')" in refused(file)
    save_file({"0": torch.zeros(2)}, file, {"format": "tessera.sampling.1", "step": "2", "steps": "2"})
    assert "step 2 of 2" in refused(file)
    write_state(file, state_after(3, belongs_to="other"))
    assert "other settings" in refused(file)
    file.unlink()
    file.mkdir()
    assert "a folder" in refused(file)


@pytest.mark.usefixtures("remembered")
def test_a_field_that_this_version_does_not_know_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(tmp_path / "state", dataclasses.replace(state_after(3), cache=cast(Any, Remembered(()))))
    monkeypatch.setattr(checkpoint, "KINDS", kinds_of(Past))
    assert "this program knows no Remembered of passes, total, by_name" in refused(tmp_path / "state")


COMMAND = GenerateVideo("x", Path("out.mp4"), Path("model"), steps=12, seed=1)
SAME: list[Callable[[GenerateVideo], GenerateVideo]] = [
    lambda made: dataclasses.replace(made, output=Path("other.mp4")),
    lambda made: dataclasses.replace(made, fps=30, budget_bytes=1 << 30),
    lambda made: dataclasses.replace(made, decode=DecodeSettings(strip_rows=8)),
    lambda made: dataclasses.replace(made, sampling=SamplingSettings(resident_blocks=3, chunk_tokens=99)),
]
OTHER: list[Callable[[GenerateVideo], GenerateVideo]] = [
    lambda made: dataclasses.replace(made, prompt="y"),
    lambda made: dataclasses.replace(made, seed=2),
    lambda made: dataclasses.replace(made, times=(1000.0, 500.0)),
    lambda made: dataclasses.replace(made, sampling=SamplingSettings(step_cache=0.1)),
    lambda made: dataclasses.replace(made, solver=Solver.EULER),
]


def test_the_fingerprint_is_that_of_the_result(tmp_path: Path) -> None:
    own = fingerprint(COMMAND, ())
    assert {fingerprint(change(COMMAND), ()) for change in SAME} == {own}
    assert len({own, *(fingerprint(change(COMMAND), ()) for change in OTHER)}) == 1 + len(OTHER)


def test_the_fingerprint_knows_the_files(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"1")
    uses: tuple[Callable[[], str], ...] = (
        lambda: fingerprint(COMMAND, [file]),
        lambda: fingerprint(dataclasses.replace(COMMAND, given=Given(first=file)), ()),
        lambda: fingerprint(dataclasses.replace(COMMAND, loras=(LoraUse(file, 0.5),)), ()),
    )
    before = [use() for use in uses]
    assert before == [use() for use in uses]
    assert len({*before, fingerprint(COMMAND, ())}) == 4
    file.write_bytes(b"12")
    assert not {*before} & {use() for use in uses}


@dataclass(frozen=True, slots=True)
class LaterCommand(GenerateVideo):
    """A later version's, with more to say."""

    more: tuple[float, ...] = ()


def test_a_later_version_with_more_settings_goes_on_with_older_jobs() -> None:
    fields = {field.name: getattr(COMMAND, field.name) for field in dataclasses.fields(COMMAND)}
    assert fingerprint(LaterCommand(**fields), ()) == fingerprint(COMMAND, ())
    assert fingerprint(LaterCommand(**fields, more=(1.0,)), ()) != fingerprint(COMMAND, ())


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit there")
def test_a_full_disk_leaves_the_state_before(tmp_path: Path) -> None:
    """The process may write 64 KiB into any one file: the second state does not fit, and the first is still there."""
    code = (
        "import resource, sys; from pathlib import Path; from engine.errors import EngineError\n"
        "from engine.output.job_folder import JobFolder; from tests.engine.sampling_states import state_after\n"
        "folder = JobFolder(Path(sys.argv[1]), None)\n"
        "folder.keep_state(state_after(1, shape=(1, 16, 1, 4, 4)))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try:\n    folder.keep_state(state_after(2))\n"
        "except EngineError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "output_not_writable" in done.stdout
    assert "File too large" in done.stdout
    assert [each.name for each in tmp_path.iterdir()] == [STATE_FILE]
    found = read_state(tmp_path / STATE_FILE, "job")
    assert (found.step, is_whole(found)) == (1, True)


def helper(*arguments: str | Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.engine.sampling_states", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@FORKS
def test_killed_at_any_moment_the_old_state_or_the_new_one_is_there_whole(tmp_path: Path) -> None:
    """What was said to be on disk is: the state found is the one said last, or the one that was being written."""
    rounds = helper("writers", tmp_path, "25")
    for found in rounds:
        assert found["whole"], found
        assert found["said"] <= found["step"] <= found["said"] + 1, found
    assert len({found["step"] for found in rounds}) > 2
    assert any(STATE_FILE + ".tmp" in found["left"] for found in rounds), "none was killed while it wrote"


@FORKS
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("solver", list(Solver))
def test_a_job_killed_again_and_again_has_the_same_latents(tmp_path: Path, solver: Solver) -> None:
    (told,) = helper("samplers", tmp_path, solver.value)
    begun = told["begun"]
    assert begun == sorted(begun)
    assert any(step > 0 for step in begun), "killed too early to go on from anything"
    # Killed right after its latents were saved, it has not removed its state yet.
    left = {each.name for each in Path(told["job"]).iterdir()} - {STATE_FILE}
    assert left == {"command.json", "job.lock", "latents.safetensors"}
    command = GenerateVideo("x", tmp_path / "out.mp4", steps=12, seed=3, solver=solver)
    undisturbed = JobFolder.create(tmp_path / "undisturbed", command)
    expected = sampled(undisturbed, command, keeps_all=False)
    assert torch.equal(load_file(Path(told["job"]) / "latents.safetensors")["latents"], expected)
