"""Encoded texts on the disk: found again to the bit, never believed when damaged, never in the way of a job."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from engine.embedding_cache import EmbeddingCache, image_key, text_key

KEY = "a" * 64


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "made" / "later")


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    encoder, tokenizer = tmp_path / "encoder.pth", tmp_path / "spiece.model"
    encoder.write_bytes(b"weights")
    tokenizer.write_bytes(b"pieces")
    return encoder, tokenizer


def rows_of(length: int = 7, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(length, 32, generator=torch.Generator().manual_seed(length)).to(dtype)


def same(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and one.dtype is other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rows_are_found_again(cache: EmbeddingCache, dtype: torch.dtype) -> None:
    assert cache.get(KEY) is None
    rows = rows_of(dtype=dtype)
    with torch.inference_mode():
        cache.put(KEY, rows)
    assert same(cache.get(KEY), rows)
    assert cache.get("b" * 64) is None
    cache.put(KEY, rows_of(9))
    assert same(cache.get(KEY), rows_of(9))


def test_views_are_kept_without_what_is_around_them(cache: EmbeddingCache) -> None:
    whole = torch.randn(2, 512, 32)
    cache.put(KEY, whole[1, :3])
    assert same(cache.get(KEY), whole[1, :3])
    assert sum(file.stat().st_size for file in cache.folder.iterdir()) < 2000


def test_everything_that_matters_is_in_the_key(models: tuple[Path, Path]) -> None:
    encoder, tokenizer = models

    def key(prompt: str = "a cat", text_len: int = 512, dtype: torch.dtype = torch.bfloat16, form: str = "") -> str:
        return text_key((encoder,), tokenizer, prompt, text_len, dtype, form)

    keys = [key(), key("a dog"), key(text_len=256), key(dtype=torch.float32), key(form="other"), key("")]
    keys.append(text_key((encoder, encoder), tokenizer, "a cat", 512, torch.bfloat16))
    assert key() == keys[0]
    for file in models:
        file.write_bytes(file.read_bytes() + b"!")
        keys.append(key())
        status = file.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
        keys.append(key())
    assert len(set(keys)) == len(keys)
    encoder.unlink()
    with pytest.raises(OSError, match=str(encoder.name)):
        key()


def test_pictures_are_told_apart_by_their_values(models: tuple[Path, Path]) -> None:
    picture = torch.zeros(1, 3, 4, 4)
    other = picture.clone()
    other[0, 2, 3, 3] = 1e-6
    pictures = [picture, other, picture.view(1, 3, 2, 8), picture.bfloat16()]
    keys = {image_key((models[0],), one, torch.bfloat16) for one in pictures}
    assert len(keys) == len(pictures)
    assert image_key((models[0],), picture.clone(), torch.bfloat16) in keys


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), is_cut=st.booleans())
def test_a_damaged_entry_is_none_and_is_written_anew(cache: EmbeddingCache, at: float, bit: int, is_cut: bool) -> None:
    rows = rows_of()
    cache.put(KEY, rows)
    (file,) = cache.folder.iterdir()
    content = bytearray(file.read_bytes())
    place = int(at * len(content))
    if is_cut:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    file.write_bytes(content)
    found = cache.get(KEY)
    assert found is None or same(found, rows)  # a bit in the header's padding changes nothing
    cache.put(KEY, rows)
    assert same(cache.get(KEY), rows)


def test_files_of_others_are_not_believed(cache: EmbeddingCache) -> None:
    cache.folder.mkdir(parents=True)
    file = cache.folder / f"{KEY}.safetensors"
    for content in (b"", b"\xff" * 8, b"\xff" * 100, b"{}", b"\0" * 64):
        file.write_bytes(content)
        assert cache.get(KEY) is None
    save_file({"rows": rows_of()}, file)
    assert cache.get(KEY) is None
    cache.put("b" * 64, rows_of())
    (cache.folder / f"{'b' * 64}.safetensors").replace(file)  # whole, and of another prompt
    assert cache.get(KEY) is None
    file.unlink()
    file.mkdir()
    assert cache.get(KEY) is None
    cache.put(KEY, rows_of())
    assert cache.get(KEY) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_keeps_nobody_waiting(cache: EmbeddingCache) -> None:
    cache.folder.mkdir(parents=True)
    os.mkfifo(cache.folder / f"{KEY}.safetensors")
    assert cache.get(KEY) is None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, limit_bytes=3000)  # three entries of some 750 bytes
    for age, key in enumerate("abcd"):
        cache.put(key, rows_of())
        for kept in cache.folder.iterdir():  # everything grows older
            os.utime(kept, (time.time() - 100 + age, kept.stat().st_mtime - 10))
        if key == "c":
            assert cache.get("a") is not None
    cache.put("e", rows_of())
    cache.put("f", rows_of())
    found = [key for key in "abcdef" if cache.get(key) is not None]
    assert "a" in found
    assert "b" not in found
    assert found[-1] == "f"
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 3000


def test_what_alone_is_too_large_is_not_kept(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, limit_bytes=1500)
    cache.put("a", rows_of())
    cache.put("b", rows_of(2000))
    assert cache.get("b") is None
    assert same(cache.get("a"), rows_of())


def test_a_folder_that_cannot_be_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = EmbeddingCache(tmp_path / "file" / "folder")
    cache.put(KEY, rows_of())
    assert cache.get(KEY) is None


def test_a_full_disk_is_no_failure(cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put("a", rows_of())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    cache.put("b", rows_of())
    monkeypatch.undo()
    assert cache.get("b") is None
    assert same(cache.get("a"), rows_of())
    assert not [*cache.folder.glob("*.tmp")]


WRITER = """
import sys, torch
from pathlib import Path
from engine.embedding_cache import EmbeddingCache
cache = EmbeddingCache(Path(sys.argv[1]))
rows = torch.arange(512 * 512).view(512, 512).float()
print("begins", flush=True)
while True:
    cache.put("a" * 64, rows)
"""


def test_a_writer_that_is_killed_leaves_a_whole_entry_or_none(tmp_path: Path) -> None:
    rows = torch.arange(512 * 512).view(512, 512).float()
    cache = EmbeddingCache(tmp_path)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline()
    for _ in range(20):
        found = cache.get(KEY)
        assert found is None or same(found, rows)
        time.sleep(0.005)
    writer.kill()
    writer.wait()
    writer.stdout.close()
    assert cache.get(KEY) is None or same(cache.get(KEY), rows)
    cache.put(KEY, rows)
    assert same(cache.get(KEY), rows)


def test_left_overs_of_killed_writers_go(cache: EmbeddingCache) -> None:
    cache.put("a", rows_of())
    old, new = (cache.folder / f"{name}.safetensors.tmp" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.put("b", rows_of())
    assert not old.exists()
    assert new.exists()  # somebody may be writing it
