"""What makes a video impossible to write is found before hours are spent on it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import EngineError, ErrorCode
from engine.output.finished_video import check_output
from tests.engine.video_writing import assert_nothing_left, patches, write


def a_wrong_path(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    return "/nowhere/ffmpeg"


def none_found(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setattr("imageio_ffmpeg._utils._get_ffmpeg_exe", lambda: None)
    return "No ffmpeg exe could be found"


@pytest.mark.parametrize("arrange", [a_wrong_path, none_found])
def test_a_missing_ffmpeg_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrange: Callable[[pytest.MonkeyPatch], str]
) -> None:
    words, output = arrange(monkeypatch), tmp_path / "new" / "out.mp4"
    with pytest.raises(EngineError, match=words) as caught:
        check_output(output)
    assert caught.value.code is ErrorCode.VIDEO_WRITER_FAILED
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(EngineError, match=words) as caught:
        write(output, patches(1))
    assert caught.value.code is ErrorCode.VIDEO_WRITER_FAILED
    assert_nothing_left(output)


def refusal(output: Path) -> str:
    with pytest.raises(EngineError) as caught:
        check_output(output)
    assert caught.value.code is ErrorCode.OUTPUT_NOT_WRITABLE
    return str(caught.value.details["reason"])


def test_an_output_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    impossible = [tmp_path, tmp_path / "file" / "out.mp4", tmp_path / ("n" * 300)]
    if sys.platform == "linux":
        impossible.append(Path("/proc/out.mp4"))
    for output in impossible:
        assert refusal(output)
    check_output(tmp_path / "new" / "folder" / "out.mp4")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_read_only_file_is_found(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"old")
    check_output(output)
    output.chmod(0o444)
    try:
        with output.open("rb+"):
            pytest.skip("nothing is read-only for this user")
    except PermissionError:
        assert "denied" in refusal(output)
    assert output.read_bytes() == b"old"


@pytest.mark.skipif(sys.platform != "linux", reason="a program that runs is what Linux locks")
def test_a_locked_file_is_found(tmp_path: Path) -> None:
    program = shutil.which("sleep")
    assert program is not None
    output = Path(shutil.copy(program, tmp_path / "sleep"))
    running = subprocess.Popen([output, "60"])
    try:
        assert "busy" in refusal(output)
    finally:
        running.kill()
        running.wait()
    check_output(output)
    assert output.read_bytes() == Path(program).read_bytes()
