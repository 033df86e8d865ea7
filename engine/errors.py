"""Failures that a person can act on: a code and the data for the sentence, never the sentence itself."""

from enum import StrEnum
from functools import partial


class ErrorCode(StrEnum):
    """Every kind of failure; the details that each one carries are named beside it."""

    INVALID_SIZE = "invalid_size"  # width, height, multiple, smallest, largest, nearest (e.g. "256x256, 288x256")
    INVALID_FRAMES = "invalid_frames"  # frames, nearest (e.g. "29, 33")
    INVALID_SETTING = "invalid_setting"  # name, value, allowed
    MODEL_NOT_FOUND = "model_not_found"  # folder, missing (file names)
    MODEL_INVALID = "model_invalid"  # file, reason
    LATENTS_INVALID = "latents_invalid"  # file, reason
    PICTURE_INVALID = "picture_invalid"  # file (of a picture or a clip), reason
    NO_PLAN_FITS = "no_plan_fits"  # budget_bytes, smallest_bytes
    OUT_OF_MEMORY = "out_of_memory"  # stage
    OUTPUT_NOT_WRITABLE = "output_not_writable"  # path, reason
    VIDEO_WRITER_FAILED = "video_writer_failed"  # last_lines (of ffmpeg, or why there is none)
    UNEXPECTED = "unexpected"  # reason


class EngineError(Exception):
    """A failure with a code. `details` are the values that a front end puts into its sentence."""

    def __init__(self, code: ErrorCode, **details: str | int | float) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details

    def __reduce__(self) -> tuple[partial["EngineError"], tuple[()]]:
        # An exception is copied and pickled by calling its class with `args`, which knows no keywords.
        return partial(type(self), self.code, **self.details), ()

    def __str__(self) -> str:
        return f"{self.code}: " + ", ".join(f"{name}={value}" for name, value in self.details.items())
