"""Latents and commands come back as they were, and a damaged command is told."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.cancel import Cancelled
from engine.commands import (
    Command,
    ContinueVideo,
    DecodeLatents,
    DecodeMode,
    DecodeSettings,
    GenerateVideo,
    LatentsLayout,
    LatentsSpace,
    from_json,
    to_json,
)
from engine.decode.latents_file import read_latents
from engine.errors import EngineError, ErrorCode
from engine.generation import Solver
from engine.output.durable import UNFINISHED
from engine.output.job_folder import (
    HALF_DONE_FILES,
    LOCK_FILE,
    STATE_FILE,
    End,
    JobFolder,
    command_beside,
    command_in,
    default_jobs_folder,
    end_of,
)
from tests.engine.sampling_states import is_whole, state_after
from tests.engine.tiny_model import VAE

COMMAND = GenerateVideo("一只球; x=y\n", Path("out.mp4"), seed=5)
LATENTS = torch.randn(1, 8, 3, 4, 5, generator=torch.Generator().manual_seed(0))

paths = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1).map(Path)
counts = st.integers(-(2**70), 2**70)
decode_settings = st.builds(
    DecodeSettings, st.sampled_from(DecodeMode), *[st.none() | st.integers(0, 2**60) for _ in range(3)]
)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        GenerateVideo, st.text(), paths, paths, st.text(), counts, counts, counts, counts, counts,
        st.floats(allow_nan=False), st.floats(allow_nan=False), counts, st.sampled_from(Solver), decode_settings,
    ),
    st.builds(
        DecodeLatents, paths, paths, paths, st.none() | counts, decode_settings, st.sampled_from(LatentsLayout),
        st.sampled_from(LatentsSpace),
    ),
    st.builds(ContinueVideo, paths, paths),
)  # fmt: skip


@given(commands)
def test_commands_survive_json(command: Command) -> None:
    assert from_json(to_json(command)) == command


@pytest.mark.parametrize("fields", [{}, {"job": "j"}, {"job": "j", "output": None}, {"job": 1, "output": "o"},
                                    {"job": "j", "output": "o", "more": "x"}])  # fmt: skip
def test_what_is_no_command_to_go_on_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        from_json(json.dumps({"kind": "ContinueVideo", **fields}))


def test_commands_from_before_latents_had_a_layout_can_be_read() -> None:
    command = DecodeLatents(Path("old.safetensors"), Path("out.mp4"), fps=16)
    fields = json.loads(to_json(command))
    assert {fields.pop("layout"), fields.pop("space")} == {"automatic"}
    assert from_json(json.dumps(fields)) == command


def test_a_job_comes_back_from_its_folder(tmp_path: Path) -> None:
    folder = JobFolder.create(tmp_path / "jobs", COMMAND)
    path = folder.save_latents(LATENTS.to(torch.bfloat16))
    assert torch.equal(read_latents(path, VAE), LATENTS.to(torch.bfloat16).float())
    assert command_beside(path) == COMMAND
    assert sorted(file.name for file in folder.path.iterdir()) == ["command.json", "job.lock", "latents.safetensors"]


def released(folder: JobFolder) -> JobFolder:
    assert folder.lock is not None
    folder.lock.release()
    return folder


def test_what_was_kept_of_sampling_comes_back_until_there_are_latents(tmp_path: Path) -> None:
    folder = JobFolder.create(tmp_path / "jobs", COMMAND)
    assert folder.read_state("job") is None
    for step in (3, 4):
        folder.keep_state(state_after(step))
    found = folder.read_state("job")
    assert found is not None
    assert (found.step, is_whole(found)) == (4, True)
    assert sorted(file.name for file in folder.path.iterdir()) == ["command.json", "job.lock", STATE_FILE]
    (folder.path / (STATE_FILE + UNFINISHED)).touch()  # of a process that was killed while it wrote
    folder.save_latents(LATENTS)
    assert sorted(file.name for file in folder.path.iterdir()) == ["command.json", "job.lock", "latents.safetensors"]


def test_a_state_is_not_half_done_but_one_that_is_being_written_is() -> None:
    assert STATE_FILE not in HALF_DONE_FILES
    assert STATE_FILE + UNFINISHED in HALF_DONE_FILES


def test_a_job_that_is_gone_on_with_has_its_folder_again(tmp_path: Path) -> None:
    folder = JobFolder.create(tmp_path / "jobs", COMMAND)
    folder.keep_state(state_after(3))
    with pytest.raises(Cancelled), folder.recorded_end(COMMAND.output):
        raise Cancelled
    assert end_of(folder.path) is End.CANCELLED
    command = dataclasses.replace(command_in(folder.path), output=tmp_path / "caf\udce9.mp4")
    again = JobFolder.reopen(folder.path, command)
    assert (again.path, end_of(again.path), command_in(again.path)) == (folder.path, None, command)
    assert again.read_state("job") is not None
    with pytest.raises(EngineError, match="another process works on this job"):
        JobFolder.reopen(folder.path, COMMAND)
    assert command_in(folder.path) == command, "what was refused changed nothing"
    released(again)
    assert JobFolder.reopen(folder.path, command).lock is not None


def test_a_folder_of_a_version_before_the_lock_is_taken_up(tmp_path: Path) -> None:
    folder = released(JobFolder.create(tmp_path, COMMAND))
    (folder.path / LOCK_FILE).unlink()
    assert JobFolder.reopen(folder.path, command_in(folder.path)).lock is not None


def test_what_is_no_job_that_samples_is_told(tmp_path: Path) -> None:
    decode = released(JobFolder.create(tmp_path / "jobs", DecodeLatents(Path("a"), Path("b"))))
    for folder in (tmp_path, tmp_path / "nowhere", decode.path):
        with pytest.raises(EngineError, match="is not there, or of a job that does not sample") as caught:
            command_in(folder)
        assert caught.value.code is ErrorCode.LATENTS_INVALID


def test_paths_that_are_not_utf8_survive(tmp_path: Path) -> None:
    """Python carries the byte E9 of such a name as DCE9; Windows allows this character in names as it is."""
    command = dataclasses.replace(COMMAND, output=Path("caf\udce9.mp4"))
    folder = JobFolder.create(tmp_path, command)
    assert command_beside(folder.latents) == command


def test_jobs_of_the_same_second_get_their_own_folders(tmp_path: Path) -> None:
    assert len({JobFolder.create(tmp_path, COMMAND).path for _ in range(20)}) == 20


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"kind": "GenerateVideo", "decode": 3}', '"x"'])
def test_a_damaged_command_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "command.json").write_text(content)
    with pytest.raises(EngineError, match=r"command\.json"):
        command_beside(tmp_path / "latents.safetensors")


def test_latents_without_a_command_have_none(tmp_path: Path) -> None:
    assert command_beside(tmp_path / "latents.safetensors") is None


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit there")
def test_a_full_disk_leaves_no_half_latents(tmp_path: Path) -> None:
    """The process may write 4 KiB into any one file: the latents do not fit, and the error says so."""
    code = (
        "import resource, sys, torch; from pathlib import Path; from engine.commands import GenerateVideo;"
        "from engine.errors import EngineError; from engine.output.job_folder import JobFolder\n"
        "folder = JobFolder.create(Path(sys.argv[1]), GenerateVideo('x', Path('o')))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    folder.save_latents(torch.zeros(1, 8, 4, 32, 32))\n"
        "except EngineError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "output_not_writable" in done.stdout
    assert "File too large" in done.stdout
    assert sorted(file.name for file in next(tmp_path.iterdir()).iterdir()) == ["command.json", "job.lock"]


@pytest.mark.skipif(sys.platform != "linux", reason="the XDG folders")
def test_the_folder_of_jobs_follows_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_jobs_folder() == Path("/somewhere/tessera/jobs")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_jobs_folder() == Path("/home/someone/.local/share/tessera/jobs")
