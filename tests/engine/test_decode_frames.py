"""Bytes on the card and the frames file behind the canvas."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.canvas import Canvas
from engine.decode.frames import FrameStore, to_bgrx
from engine.errors import EngineError, ErrorCode


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_blue_green_red_and_rounded(dtype: torch.dtype) -> None:
    rgb = torch.linspace(-1.5, 1.5, 3 * 2 * 5 * 7).view(3, 2, 5, 7).to(dtype)
    before = rgb.clone()
    expected = np.floor((np.clip(rgb.float().numpy(), -1, 1) + 1) * 127.5 + 0.5)
    made = to_bgrx(rgb).numpy()
    assert made.shape == (2, 5, 7, 4)
    assert made.dtype == np.uint8
    for position, colour in enumerate((2, 1, 0)):
        assert (made[..., position] == expected[colour]).all()
    assert (made[..., 3] == 255).all()
    assert torch.equal(rgb, before)


def test_the_store_is_the_canvas_and_the_file(tmp_path: Path) -> None:
    store = FrameStore(tmp_path / "frames", 5, 8, 6)
    canvas = Canvas()
    canvas.open(store.pixels, 1, 1, 1)
    rows = torch.randint(0, 256, (2, 3, 6, 4), dtype=torch.uint8)
    store.write(1, 4, rows)
    assert np.shares_memory(canvas.pixels, store.pixels)
    assert (canvas.pixels[1:3, 4:7] == rows.numpy()).all()
    store.close()
    on_disk = np.fromfile(store.path, np.uint8).reshape(5, 8, 6, 4)
    assert (on_disk[1:3, 4:7] == rows.numpy()).all()
    assert on_disk.sum() == rows.sum()
    with pytest.raises(ValueError, match="closed"):
        _ = store.pixels
    assert (canvas.pixels[1:3, 4:7] == rows.numpy()).all()
    if sys.platform == "win32":
        del canvas  # there no file is removed while somebody maps it
    store.delete()
    assert list(tmp_path.iterdir()) == []


def test_what_was_decoded_survives_a_killed_process(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, torch; from pathlib import Path; from engine.decode.frames import FrameStore\n"
        "store = FrameStore(Path(sys.argv[1]) / 'frames', 2, 4, 4)\n"
        "store.write(0, 0, torch.full((1, 2, 4, 4), 7, dtype=torch.uint8)); os._exit(9)\n"
    )
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False)
    assert ended.returncode == 9
    pixels = np.fromfile(tmp_path / "frames", np.uint8).reshape(2, 4, 4, 4)
    assert (pixels[0, :2] == 7).all()
    assert pixels.sum() == 7 * 32


def test_a_disk_without_room_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as refused:
        FrameStore(tmp_path / "missing" / "frames", 2, 4, 4)
    assert refused.value.code is ErrorCode.OUTPUT_NOT_WRITABLE
    with pytest.raises(EngineError) as refused:
        FrameStore(tmp_path / "frames", 2**20, 2**16, 2**16)  # 2**54 bytes
    assert refused.value.code is ErrorCode.OUTPUT_NOT_WRITABLE
    assert list(tmp_path.iterdir()) == []
