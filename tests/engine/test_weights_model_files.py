"""The walk finds what a look at the whole folder finds, one after the other."""

from pathlib import Path

import pytest

from engine.weights.model_files import walk_models

NAMES = (
    "a.safetensors", "b/model-00001-of-00003.safetensors", "b/model-00002-of-00003.safetensors",
    "b/model-00002-of-00002.safetensors", "b/c/x.GGUF", "b/c/spiece.model", "b/tokenizer.json", "config.json",
    "z.pth.tmp", "late/model-00003-of-00003.safetensors",
)  # fmt: skip


def test_files_come_in_order_and_of_split_ones_the_first(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(file.relative_to(tmp_path).as_posix()) for file in walk_models(tmp_path)] == [
        "a.safetensors", "b/model-00001-of-00003.safetensors", "b/model-00002-of-00002.safetensors", "b/tokenizer.json",
        "b/c/spiece.model", "b/c/x.GGUF", "late/model-00003-of-00003.safetensors",
    ]  # fmt: skip


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "b").mkdir()
    walk = walk_models(tmp_path)
    assert next(walk) == tmp_path / "a.safetensors"
    (tmp_path / "b" / "later.safetensors").touch()
    assert list(walk) == [tmp_path / "b" / "later.safetensors"]


def test_a_place_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(walk_models(tmp_path / "gone"))
    assert list(walk_models(tmp_path)) == []
