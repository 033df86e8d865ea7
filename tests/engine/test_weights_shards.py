"""Checkpoints in several files: put together whole and without contradiction, or the file at fault is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import EngineError, ErrorCode
from engine.weights.containers import open_checkpoint

TENSORS = {f"blocks.{i}.weight": torch.full((i + 1, 2), float(i)) for i in range(6)}
NAMES = [f"diffusion_pytorch_model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
INDEX = "diffusion_pytorch_model.safetensors.index.json"
PLACES = {name: NAMES[i % 3] for i, name in enumerate(TENSORS)}


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, ...]:
    for i, name in enumerate(NAMES):
        save_file(dict(list(TENSORS.items())[i::3]), tmp_path / name, {"format": "pt", f"part{i}": "x"})
    return tuple(tmp_path / name for name in NAMES)


def write_index(folder: Path, places: object) -> Path:
    (file := folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}), "utf-8")
    return file


def refused(files: tuple[Path, ...], at: Path) -> str:
    with pytest.raises(EngineError) as caught:
        open_checkpoint(files)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(at)
    return str(caught.value.details["reason"])


@pytest.mark.parametrize("has_index", [False, True])
def test_shards_are_one_checkpoint(tmp_path: Path, shards: tuple[Path, ...], has_index: bool) -> None:
    """However it is named: all of them, one, several, or the index."""
    index = (write_index(tmp_path, PLACES),) if has_index else ()
    for files in (shards, shards[:1], shards[1:], index or shards, (*shards, *index)):
        checkpoint = open_checkpoint(files)
        assert sorted(checkpoint.files) == sorted(shards)
        assert checkpoint.metadata == {"format": "pt", "part0": "x", "part1": "x", "part2": "x"}
        assert checkpoint.header.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert torch.equal(checkpoint.read(name), tensor)
            assert checkpoint.header[name].shape == tuple(tensor.shape)


def test_files_of_different_kinds_and_names(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, first := tmp_path / "a.safetensors")
    torch.save({"b": torch.ones(3)}, second := tmp_path / "b.pth")
    checkpoint = open_checkpoint((first, second))
    assert checkpoint.files == (first, second)
    assert checkpoint.read("b").shape == (3,)


def test_shards_of_torch_save(tmp_path: Path) -> None:
    for i in (1, 2):
        torch.save({f"x{i}": torch.full((2,), i)}, tmp_path / f"pytorch_model-0000{i}-of-00002.bin")
    places = {"x1": "pytorch_model-00001-of-00002.bin", "x2": "pytorch_model-00002-of-00002.bin"}
    (index := tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}), "utf-8")
    assert open_checkpoint((index,)).read("x2").tolist() == [2, 2]


def test_a_missing_shard_is_named(tmp_path: Path, shards: tuple[Path, ...]) -> None:
    shards[1].unlink()
    assert refused(shards[:1], shards[0]).endswith(f"missing: {NAMES[1]}")
    index = write_index(tmp_path, PLACES)
    assert refused((index,), index).endswith(f"missing: {NAMES[1]}")


def test_many_missing_shards_are_not_all_named(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, file := tmp_path / "a-00001-of-99999.safetensors")
    assert refused((file,), file).endswith("a-00006-of-99999.safetensors and 99993 more")


@pytest.mark.parametrize("number", ["00000-of-00003", "00004-of-00003", "00001-of-00000"])
def test_a_number_that_cannot_be(tmp_path: Path, number: str) -> None:
    save_file({"a": torch.ones(2)}, file := tmp_path / f"a-{number}.safetensors")
    assert "by its name" in refused((file,), file)


def test_a_tensor_in_two_shards(shards: tuple[Path, ...]) -> None:
    save_file({"new": torch.ones(1), "blocks.0.weight": TENSORS["blocks.0.weight"]}, shards[2])
    assert refused(shards, shards[2]) == f"blocks.0.weight: also in {NAMES[0]}"


@pytest.mark.parametrize("change", [{"blocks.0.weight": NAMES[1]}, {"blocks.9.weight": NAMES[1]}])
def test_an_index_that_the_files_contradict(tmp_path: Path, shards: tuple[Path, ...], change: dict[str, str]) -> None:
    index = write_index(tmp_path, PLACES | change)
    for files in (shards, (index,)):
        assert refused(files, index) == f"{next(iter(change))} is not in {NAMES[1]}"


def test_a_damaged_shard_is_the_one_named(tmp_path: Path, shards: tuple[Path, ...]) -> None:
    shards[2].write_bytes(shards[2].read_bytes()[:-1])
    assert "cut short" in refused((write_index(tmp_path, PLACES),), shards[2])


PLACES_THAT_CANNOT_BE: list[Any] = [
    {}, [], None, "x", {"a": 1}, {"a": None}, {"a": ""}, {"a": "../a.safetensors"}, {"a": "/etc/a"}, {"a": ".."},
    {"a": "b/a.safetensors"}, {"a": "b\\a.safetensors"}, {"a": "C:a.safetensors"}, {"a": "a\0b"}, {"a": "."},
]  # fmt: skip


@pytest.mark.parametrize("places", PLACES_THAT_CANNOT_BE)
def test_places_that_cannot_be(tmp_path: Path, shards: tuple[Path, ...], places: object) -> None:
    index = write_index(tmp_path, places)
    assert refused(shards[:1], index)
    assert refused((index,), index)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"weight_map": {"a": "b", "a": "c"}}', "\udcff"])
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    (index := tmp_path / INDEX).write_text(text, "utf-8", errors="surrogateescape")
    assert refused((index,), index)


def test_an_index_that_names_itself(tmp_path: Path) -> None:
    index = write_index(tmp_path, {"a": INDEX})
    assert refused((index,), index)
