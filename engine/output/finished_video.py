"""An encoded stream to the MP4 that a person finds: tags in it, index in front, complete on disk under its name.

The file is `NAME.mp4.part` until ffmpeg has ended well and the bytes are on the disk. Lives on the engine's thread.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.errors import EngineError, ErrorCode
from engine.output.durable import disk_errors, put_in_place
from engine.output.ffmpeg import FfmpegProcess, find_ffmpeg
from engine.output.metadata import ffmetadata

POLL_SECONDS = 0.1


def part_of(output: Path) -> Path:
    """The name of `output` while it is not complete."""
    return output.with_name(output.name + ".part")


def check_output(output: Path) -> None:
    """See that there is an ffmpeg, make the folder of `output` and see that a file can be written there.

    Raises VIDEO_WRITER_FAILED and OUTPUT_NOT_WRITABLE.
    """
    find_ffmpeg()
    with disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.is_dir():
            raise IsADirectoryError(0, "Is a directory")
        if output.exists():
            # One that must not be written, or that a player on Windows locks, is better found now than after hours.
            output.open("rb+").close()
        part = part_of(output)
        part.open("ab").close()
        part.unlink()


def finish_video(stream: Path, output: Path, tags: dict[str, str], on_wait: Callable[[], None]) -> None:
    """Copy the encoded `stream` to the MP4 `output`, with `tags`; its pictures stay as they are.

    `on_wait` is called ten times a second and may raise. Raises VIDEO_WRITER_FAILED and OUTPUT_NOT_WRITABLE.
    """
    try:
        with _started(stream, part_of(output), tags) as ffmpeg:
            on_wait()
            while not ffmpeg.has_ended(POLL_SECONDS):
                on_wait()
        if not ffmpeg.has_succeeded:
            raise EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=ffmpeg.last_words())
    except BaseException:
        with contextlib.suppress(OSError):  # what is told is why it ended, not what is left of it
            part_of(output).unlink()
        raise
    put_in_place(part_of(output), output)


@contextlib.contextmanager
def _started(stream: Path, part: Path, tags: dict[str, str]) -> Iterator[FfmpegProcess]:
    """ffmpeg as it copies; it has ended when the block is left. Raises VIDEO_WRITER_FAILED."""
    with contextlib.ExitStack() as resources:
        try:
            temporary = tempfile.TemporaryDirectory(prefix="tessera-", ignore_cleanup_errors=True)
            file = Path(resources.enter_context(temporary)) / "tags.txt"
            file.write_text(ffmetadata(tags), "utf-8", "replace", "\n")
            ffmpeg = FfmpegProcess(copy_command(stream, part, file))
        except OSError as error:
            raise EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=str(error)) from error
        resources.callback(ffmpeg.end)
        ffmpeg.stdin.close()
        yield ffmpeg


def copy_command(stream: Path, part: Path, tags: Path) -> list[str]:
    """The command line: pictures as they are, tags from a file of ffmpeg's own format, index in front."""
    return [
        find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y", "-i", f"file:{stream}",
        "-f", "ffmetadata", "-i", str(tags), "-map", "0:v", "-map_metadata", "1",
        "-c", "copy", "-movflags", "+faststart", "-f", "mp4", f"file:{part}",
    ]  # fmt: skip
