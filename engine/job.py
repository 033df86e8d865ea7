"""The state of the job that runs: who listens, where it computes, what is already safe on disk. Engine thread."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.decode.one_ahead import OneAhead
from engine.device import Device
from engine.events import Event, SamplingKept, Stage, WeightsRead
from engine.preview import Preview, preview_pictures
from engine.stages import Stages

TELL_SECONDS = 0.2  # between two events about bytes that were read


@dataclass(slots=True)
class Job:
    """One job. `latents` is set as soon as the sampled latents are on disk; `kept_steps` are on disk before that."""

    emit: Callable[[Event], None]
    canvas: Canvas
    cancel: CancelFlag
    device: Device
    stages: Stages
    jobs_folder: Path
    latents: Path | None = None
    kept_steps: int = 0
    ahead: OneAhead | None = None

    def check(self) -> None:
        """Raise `Cancelled` when a stop was asked for; called between blocks and layers, see `OneAhead`."""
        if self.ahead is None:
            self.ahead = OneAhead(self.device.torch_device, self.cancel)
        self.ahead()

    def reading(self, stage: Stage) -> Callable[[int, int], None]:
        """What loading a network of `stage` calls with bytes read and bytes in all; raises `Cancelled` if asked to."""
        told = -math.inf

        def read(done: int, total: int) -> None:
            nonlocal told
            self.cancel.raise_if_set()
            now = time.monotonic()
            if total and (now - told >= TELL_SECONDS or done == total):
                told = now
                self.emit(WeightsRead(stage, done, total))

        return read

    def keep_steps(self, steps: int) -> None:
        """The state after `steps` steps of sampling is on disk."""
        self.kept_steps = steps
        self.emit(SamplingKept(steps))

    def show_preview(self, latents: Tensor, preview: Preview | None) -> None:
        """Put a picture of every latent frame of `latents` [1, z, T, h, w] on the canvas, each as soon as it is there.

        A cancel leaves between two pictures, and between two layers of a decoder.
        """
        if preview is None:
            return
        shown = self.canvas.preview  # [T, rows, columns, 4]
        for number, picture in enumerate(preview_pictures(latents, preview, shown.shape[1:3], self.check)):
            self.check()
            shown[number, ..., :3] = picture
            self.canvas.mark_preview_dirty()
