"""Files that are no latents, are damaged or lie are refused with a reason, and nothing in them is ever run."""

import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from engine.decode.latents_file import read_latents
from engine.errors import EngineError, ErrorCode
from engine.weights.header import LENGTH_BYTES
from tests.engine.latents_writing import as_comfyui, as_dict, as_safetensors, as_tensor, compress, edit_pickle, vae_of

LATENTS = torch.randn(1, 8, 3, 4, 5, generator=torch.Generator().manual_seed(0))
Damage = Callable[[Path], None]


def refused(path: Path) -> str:
    """The reason why `path` is not taken."""
    with pytest.raises(EngineError) as caught:
        read_latents(path, vae_of(8))
    assert caught.value.code is ErrorCode.LATENTS_INVALID
    assert caught.value.details["file"] == str(path)
    return str(caught.value.details["reason"])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def cut_inside_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))


def missing(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def other_tensor(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def whole_numbers(path: Path) -> None:
    save_file({"latents": torch.zeros(1, 8, 3, 4, 5, dtype=torch.int32)}, path)


def no_tensors(path: Path) -> None:
    save_file({}, path)


def not_finite(path: Path) -> None:
    spoiled = LATENTS.clone()
    spoiled[0, 3, 1, 2, 2] = float("nan")
    save_file({"latents": spoiled}, path)


def infinite(path: Path) -> None:
    as_tensor(path, LATENTS.clone().fill_(float("inf")).half())


def too_large_when_normalised(path: Path) -> None:
    as_comfyui(path, LATENTS.clone().fill_(3e38), is_old=True)


def wrong_channels(path: Path) -> None:
    save_file({"latents": LATENTS[:, :4].contiguous()}, path)


def two_clips(path: Path) -> None:
    save_file({"latents": torch.cat([LATENTS, LATENTS])}, path)


def no_frames(path: Path) -> None:
    save_file({"latents": torch.zeros(1, 8, 0, 4, 4)}, path)


def sparse(path: Path) -> None:
    torch.save(LATENTS.to_sparse(), path)


def a_list(path: Path) -> None:
    torch.save([LATENTS], path)


def cut_torch_file(path: Path) -> None:
    as_tensor(path, LATENTS)
    truncated(path)


def old_torch_file(path: Path) -> None:
    torch.save(LATENTS, path, _use_new_zipfile_serialization=False)


def compressed(path: Path) -> None:
    as_tensor(path, LATENTS)
    compress(path)


def one_value_for_all(path: Path) -> None:
    """No stride: four bytes claim to be 4 TB."""
    torch.save(torch.zeros(1).as_strided((1, 8, 10**4, 10**4, 10**4), (0,) * 5), path)


def wider_than_its_bytes(path: Path) -> None:
    as_tensor(path, LATENTS)
    edit_pickle(path, b"K\x03K\x04K\x05", b"M\xff\xffM\xff\xffM\xff\xff")


def more_bytes_than_the_file(path: Path) -> None:
    """Shape and storage agree on a clip of 3 GB."""
    as_tensor(path, LATENTS)
    edit_pickle(path, b"K\x03K\x04K\x05", b"J\x00\x00\x50\x00K\x04K\x05")
    edit_pickle(path, b"M\xe0\x01tq", b"J\x00\x00\x00\x32tq")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "is damaged"), (cut_inside_the_header, "is damaged"), (empty, "is empty"),
        (a_picture, "neither a safetensors file nor one of torch.save"), (missing, "No such file"),
        (a_folder, "is a folder"), (other_tensor, "'weight' [3]"), (whole_numbers, "no tensor of 4 or 5 dimensions"),
        (no_tensors, "nothing"), (not_finite, "not finite"), (infinite, "not finite"),
        (too_large_when_normalised, "not finite"), (wrong_channels, "4 channels, the model's VAE takes 8"),
        (two_clips, "holds 2 clips"), (no_frames, "no values: its shape is [1, 8, 0, 4, 4]"), (sparse, "no tensor"),
        (a_list, "holds a list"), (cut_torch_file, "is damaged"), (old_torch_file, "version 1.6"),
        (compressed, "compressed"), (one_value_for_all, "claims the shape [1, 8, 10000, 10000, 10000]"),
        (wider_than_its_bytes, "is damaged"), (more_bytes_than_the_file, "is damaged"),
    ],
)  # fmt: skip
def test_damaged_latents_are_refused(tmp_path: Path, damage: Damage, words: str) -> None:
    as_safetensors(path := tmp_path / "latents", LATENTS)
    damage(path)
    assert words in refused(path)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names there")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (path := tmp_path / "latents.pt").touch()
    a_pipe(path)
    assert refused(path) == "is not a file"


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes take no room there")
def test_a_file_larger_than_the_memory_is_refused_before_its_values_are_read(tmp_path: Path) -> None:
    size = 2**42
    header = b'{"latents":{"dtype":"F16","shape":[1,8,%d,1024,1024],"data_offsets":[0,%d]}}' % (size >> 24, size)
    path = tmp_path / "large.safetensors"
    path.write_bytes(len(header).to_bytes(LENGTH_BYTES, "little") + header)
    os.truncate(path, LENGTH_BYTES + len(header) + size)
    assert "MiB of free memory" in refused(path)


def test_a_header_that_begins_like_a_pickle_is_still_one(tmp_path: Path) -> None:
    """A header of 640 bytes: 80 02, which is also how a pickle of protocol 2 begins."""
    for padding in range(640):
        save_file({"latents": LATENTS}, path := tmp_path / "a.safetensors", {"prompt": "x" * padding})
        if path.read_bytes().startswith(b"\x80\x02"):
            break
    assert path.read_bytes().startswith(b"\x80\x02")
    assert torch.equal(read_latents(path, vae_of(8)), LATENTS)


def test_a_torch_file_with_the_wrong_name_is_told_the_right_one(tmp_path: Path) -> None:
    as_tensor(path := tmp_path / "latents.safetensors", LATENTS)
    assert "a name that ends in .pth" in refused(path)


class Payload:
    """Unpickled without care, makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "was here", tmp_path / "latents.pth"
    payload = Payload(mark)
    for content in (payload, {"latents": LATENTS, "extra": payload}, [payload, LATENTS]):
        torch.save(content, path)
        assert "may run code" in refused(path)
        torch.save(content, path, _use_new_zipfile_serialization=False)
        assert "may run code" in refused(path)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(payload, protocol))
        refused(path)
    assert not mark.exists()
    with path.open("rb") as file:
        pickle.load(file)
    assert mark.exists(), "the payload works"


def spoil(content: bytes, edits: list[tuple[float, int]], kept: float) -> bytes:
    spoiled = bytearray(content)
    for place, value in edits:
        spoiled[int(place * (len(spoiled) - 1))] = value
    return bytes(spoiled[: int(kept * len(spoiled))])


@settings(deadline=None)
@given(
    st.sampled_from([as_safetensors, as_comfyui, as_tensor, as_dict]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    st.just(1.0) | st.floats(0, 1),
    st.floats(0, 1),
)
def test_spoiled_bytes_are_refused_or_give_latents(
    write: Callable[[Path, torch.Tensor], None], edits: list[tuple[float, int]], kept: float, part: float
) -> None:
    """Small values, so that most of the file is header, pickle and directory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latents.pth"
        write(path, LATENTS[..., :1, :1])
        path.write_bytes(spoil(path.read_bytes(), [(place * part, value) for place, value in edits], kept))
        read = read_or_code(path)
    if isinstance(read, ErrorCode):
        assert read is ErrorCode.LATENTS_INVALID
    else:
        assert read.dtype is torch.float32
        assert read.shape[:2] == (1, 8)
        assert torch.isfinite(read).all()


def read_or_code(path: Path) -> torch.Tensor | ErrorCode:
    try:
        return read_latents(path, vae_of(8))
    except EngineError as error:
        assert str(error).encode(), "what is said can be printed"  # noqa: PT017
        return error.code
