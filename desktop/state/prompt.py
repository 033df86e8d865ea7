"""What the person asked for: prompt and settings with their defaults and problems; lives on the UI thread."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from desktop.state.decode import DecodeState
from desktop.state.latents_files import knows_its_model
from desktop.state.model_use import ModelUse
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
    model_changed = Signal()  # or its defaults, or whether it can be used

    def __init__(self, model: Path, defaults: ModelDefaults, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.use = ModelUse(model)
        self.is_model_ready = True
        self.defaults = defaults
        self.decode = DecodeState(self)
        self.values = _initial(defaults)

    def change(self, values: PromptValues) -> None:
        """Take new values; silent when nothing differs, so that views may echo what they show."""
        if values != self.values:
            self.values = values
            self.values_changed.emit()

    @property
    def model(self) -> Path:
        """The model in use: a folder, or the file of a transformer."""
        return self.use.model

    def take_model(self, use: ModelUse, defaults: ModelDefaults | None, *, is_ready: bool) -> None:
        """Use another model, or another form of it. With other `defaults` the settings begin anew; None keeps them."""
        before, values = (self.use, self.is_model_ready, self.defaults), self.values
        self.use, self.is_model_ready = use, is_ready
        if defaults is not None and defaults != self.defaults:
            negative = self.values.negative_prompt
            own = negative if negative != self.defaults.negative_prompt else defaults.negative_prompt
            self.defaults = defaults
            self.values = self._fresh(own)
        if before != (use, is_ready, self.defaults):
            self.model_changed.emit()
        if self.values != values:
            self.values_changed.emit()

    def reroll_seed(self) -> None:
        """Another seed, which gives another video of the same prompt."""
        self.change(replace(self.values, seed=random.randint(0, LARGEST_ROLLED_SEED)))

    def restore_defaults(self) -> None:
        """The model's own settings again; what the person wrote and the seed stay."""
        self.change(self._fresh(self.values.negative_prompt))
        self.decode.change(DecodeSettings())

    def _fresh(self, negative_prompt: str) -> PromptValues:
        kept = self.values
        fresh = _initial(self.defaults)
        return replace(fresh, prompt=kept.prompt, negative_prompt=negative_prompt, seed=kept.seed)

    def restore_words(self, prompt: str, negative_prompt: str) -> None:
        """What the person wrote last time; nothing written leaves the model's own negative prompt."""
        negative = negative_prompt or self.values.negative_prompt
        self.change(replace(self.values, prompt=prompt, negative_prompt=negative))

    def decode_settings(self) -> DecodeSettings:
        """How the result is decoded, and within which memory budget."""
        return self.decode.settings()

    def decode_command(self, latents: Path, output: Path) -> DecodeLatents:
        """The job that decodes a file of `latents`, with the model that made them where that is known, else ours."""
        decode = self.decode_settings()
        if knows_its_model(latents):
            return DecodeLatents(latents, output, decode=decode)
        return DecodeLatents(latents, output, self.model, decode=decode, parts=self.use.parts)

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
            parts=self.use.parts,
            weights=self.use.weights,
            loras=self.use.loras,
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
