"""Picture files of every kind, whole and damaged."""

import contextlib
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.errors import EngineError, ErrorCode
from engine.pictures.read import LARGEST_PIXELS, read_picture

RGB = np.random.default_rng(1).integers(0, 256, (13, 21, 3), np.uint8)
LOSSLESS = ("png", "bmp", "tiff", "webp")


def reason(file: Path) -> str:
    with pytest.raises(EngineError) as caught:
        read_picture(file)
    assert caught.value.code is ErrorCode.PICTURE_INVALID
    assert caught.value.details["file"] == str(file)
    return str(caught.value.details["reason"])


def saved(picture: Image.Image, file: Path, **options: object) -> Path:
    picture.save(file, **options)  # type: ignore[arg-type]
    return file


@pytest.mark.parametrize("kind", LOSSLESS)
def test_bytes_are_those_of_the_file(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "webp" else {}
    made = read_picture(saved(Image.fromarray(RGB), tmp_path / f"a.{kind}", **options))
    assert made.dtype == np.uint8
    assert (made == RGB).all()


def test_jpeg_is_near_and_its_name_may_lie(tmp_path: Path) -> None:
    smooth = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    file = saved(Image.fromarray(smooth), tmp_path / "a.jpg", quality=95)
    assert np.abs(read_picture(file).astype(int) - smooth).max() <= 4
    assert (read_picture(file.rename(tmp_path / "a.png")) == np.array(Image.open(tmp_path / "a.png"))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_sideways(tmp_path: Path, orientation: int) -> None:
    turned = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1), 7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB, 1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (read_picture(saved(Image.fromarray(RGB), tmp_path / "a.png", exif=exif)) == turned[orientation]).all()


def test_what_is_transparent_lies_over_white(tmp_path: Path) -> None:
    alpha = np.random.default_rng(2).integers(0, 256, (13, 21, 1), np.uint8)
    made = read_picture(saved(Image.fromarray(np.dstack([RGB, alpha])), tmp_path / "a.png"))
    share = alpha / 255
    assert np.abs(made - (RGB * share + 255 * (1 - share))).max() <= 1


def test_a_transparent_palette_and_the_first_frame_of_a_gif(tmp_path: Path) -> None:
    flat = Image.new("P", (4, 2), 1)
    flat.putpalette([9, 9, 9, 200, 10, 20, 1, 2, 3])
    flat.putpixel((0, 0), 0)
    file = saved(flat, tmp_path / "a.gif", transparency=0, save_all=True, append_images=[Image.new("P", (4, 2), 2)])
    made = read_picture(file)
    assert made[0, 0].tolist() == [255, 255, 255]
    assert made[1, 3].tolist() == [200, 10, 20]


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, kind: str) -> None:
    words = np.linspace(0, 65535, 13 * 21).astype(np.uint16).reshape(13, 21)
    made = read_picture(saved(Image.fromarray(words), tmp_path / f"a.{kind}"))
    assert (made == np.round(words / 257).astype(np.uint8)[..., None]).all()


@pytest.mark.parametrize(("mode", "value"), [("L", 77), ("1", 1), ("LA", (77, 255)), ("CMYK", (0, 255, 255, 0))])
def test_other_modes(tmp_path: Path, mode: str, value: object) -> None:
    wanted = {"L": [77] * 3, "1": [255] * 3, "LA": [77] * 3, "CMYK": [255, 0, 0]}[mode]
    file = saved(Image.new(mode, (3, 2), value), tmp_path / "a.tiff")  # type: ignore[arg-type]
    assert (read_picture(file) == wanted).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_without_a_white_are_refused(tmp_path: Path, mode: str) -> None:
    assert "nobody knows" in reason(saved(Image.new(mode, (3, 2)), tmp_path / "a.tiff"))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(LARGEST_PIXELS + 1, 1), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_not_opened(tmp_path: Path, size: tuple[int, int]) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(bomb(*size))
    assert "pixels" in reason(file)


def test_what_is_no_picture(tmp_path: Path) -> None:
    empty, words, eps = tmp_path / "empty.png", tmp_path / "words.png", tmp_path / "a.png"
    empty.write_bytes(b"")
    words.write_text("hello")
    Image.fromarray(RGB).save(eps, "EPS")
    for file in (empty, words, eps):
        assert "no whole picture" in reason(file)
    assert "no file" in reason(tmp_path)
    for name in ("nothing.png", "a\0b.png"):
        assert reason(tmp_path / name) == "there is no such file"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "tiff", "gif"])
def test_a_cut_file_is_refused(tmp_path: Path, kind: str) -> None:
    content = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(content, kind)
    file = tmp_path / "cut"
    for share in (0.02, 0.3, 0.7):
        file.write_bytes(content.getvalue()[: int(len(content.getvalue()) * share)])
        assert reason(file)


WHOLE = {kind: BytesIO() for kind in ("png", "jpeg", "webp", "bmp", "tiff", "gif")}
for _kind, _file in WHOLE.items():
    Image.fromarray(RGB).save(_file, _kind)


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=12))
def test_damage_is_refused_or_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, kind: str, damage: list[tuple[int, int]]
) -> None:
    content = bytearray(WHOLE[kind].getvalue())
    for place, value in damage:
        content[place % len(content)] = value
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(content)
    made = None
    with contextlib.suppress(EngineError):
        made = read_picture(file)
    assert made is None or (made.ndim, made.shape[2]) == (3, 3)


def test_the_window_can_use_all_of_this_without_torch() -> None:
    modules = ", ".join(f"engine.pictures.{name}" for name in ("read", "fit", "road", "clips", "given", "prepend"))
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "False"
