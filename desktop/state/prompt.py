"""What the person asked for: prompt and settings with their defaults and problems; lives on the UI thread."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from desktop.state.decode import DecodeState
from desktop.state.latents_files import knows_its_model
from engine.commands import DecodeLatents, DecodeSettings, GenerateVideo
from engine.errors import EngineError
from engine.presets import ModelDefaults
from engine.sampling.validation import check_frames, check_settings, check_size

TEMPORAL_FACTOR = 4
LARGEST_ROLLED_SEED = 999_999_999  # short enough to be read aloud; any seed up to the engine's limit may be typed


@dataclass(frozen=True, slots=True)
class PromptValues:
    """One set of values as the panel shows them."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    frames: int
    steps: int
    guidance: float
    seed: int


class PromptState(QObject):
    """The values of the prompt panel. Every change goes through `change` and is announced once.

    `decode` is the part that says how the result becomes pictures, with announcements of its own.
    """

    values_changed = Signal()

    def __init__(self, model: Path, defaults: ModelDefaults, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.model = model
        self.defaults = defaults
        self.decode = DecodeState(self)
        self.values = _initial(defaults)

    def change(self, values: PromptValues) -> None:
        """Take new values; silent when nothing differs, so that views may echo what they show."""
        if values != self.values:
            self.values = values
            self.values_changed.emit()

    def reroll_seed(self) -> None:
        """Another seed, which gives another video of the same prompt."""
        self.change(replace(self.values, seed=random.randint(0, LARGEST_ROLLED_SEED)))

    def restore_defaults(self) -> None:
        """The model's own settings again; what the person wrote and the seed stay."""
        kept = self.values
        fresh = _initial(self.defaults)
        self.change(replace(fresh, prompt=kept.prompt, negative_prompt=kept.negative_prompt, seed=kept.seed))
        self.decode.change(DecodeSettings())

    def restore_words(self, prompt: str, negative_prompt: str) -> None:
        """What the person wrote last time; nothing written leaves the model's own negative prompt."""
        negative = negative_prompt or self.values.negative_prompt
        self.change(replace(self.values, prompt=prompt, negative_prompt=negative))

    def decode_settings(self) -> DecodeSettings:
        """How the result is decoded, and within which memory budget."""
        return self.decode.settings()

    def decode_command(self, latents: Path, output: Path) -> DecodeLatents:
        """The job that decodes a file of `latents`, with the model that made them where that is known, else ours."""
        model = None if knows_its_model(latents) else self.model
        return DecodeLatents(latents, output, model, decode=self.decode_settings())

    @property
    def seconds(self) -> float:
        """How long the video will play."""
        return self.values.frames / self.defaults.fps

    @property
    def has_prompt(self) -> bool:
        """Whether there are words to work from."""
        return bool(self.values.prompt.strip())

    def problem(self) -> EngineError | None:
        """The first setting that the engine would refuse, or None; the same checks as the engine's own."""
        values = self.values
        try:
            check_size(values.width, values.height, self.defaults.size_multiple)
            check_frames(values.frames, TEMPORAL_FACTOR)
            check_settings(self.command(Path()))
        except EngineError as error:
            return error
        return None

    def command(self, output: Path) -> GenerateVideo:
        """The job that these values describe, with its MP4 at `output`."""
        values = self.values
        return GenerateVideo(
            prompt=values.prompt.strip(),
            output=output,
            model=self.model,
            negative_prompt=values.negative_prompt.strip(),
            width=values.width,
            height=values.height,
            frames=values.frames,
            fps=self.defaults.fps,
            steps=values.steps,
            guidance=values.guidance,
            shift=self.defaults.shift,
            seed=values.seed,
            decode=self.decode_settings(),
        )


def _initial(defaults: ModelDefaults) -> PromptValues:
    return PromptValues(
        prompt="",
        negative_prompt=defaults.negative_prompt,
        width=defaults.width,
        height=defaults.height,
        frames=defaults.frames,
        steps=defaults.steps,
        guidance=defaults.guidance,
        seed=0,
    )
