"""What the person asked for: prompt and settings with their defaults and problems; lives on the UI thread."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from desktop.state.decode import DecodeState
from desktop.state.latents_files import knows_its_model
from desktop.state.model_use import ModelUse
from desktop.state.optimise import OptimiseState, OptimiseValues
from desktop.state.outlook import OutlookState
from desktop.state.start import StartState
from engine.commands import DecodeLatents, DecodeSettings, GenerateVideo
from engine.errors import EngineError
from engine.presets import ModelDefaults
from engine.sampling.validation import LARGEST_SEED, check_frames, check_settings, sampled_size

TEMPORAL_FACTOR = 4
MOST_VIDEOS = 99
LARGEST_ROLLED_SEED = 999_999_999  # short enough to be read aloud; any seed up to the engine's limit may be typed


@dataclass(frozen=True, slots=True)
class PromptValues:
    """One set of values as the panel shows them.

    guidance_low: of a model of two experts, that of the second. videos: how many, with seeds that follow each other.
    """

    prompt: str
    negative_prompt: str
    width: int
    height: int
    frames: int
    steps: int
    guidance: float
    seed: int
    guidance_low: float | None = None
    videos: int = 1


class PromptState(QObject):
    """The values of the prompt panel. Every change goes through `change` and is announced once.

    What it begins from, how it is fitted into memory and how it becomes pictures are parts with announcements of their
    own, and so is `outlook`, what the engine says to all of it.
    """

    values_changed = Signal()
    model_changed = Signal()  # or its defaults, or whether it can be used

    def __init__(self, model: Path, defaults: ModelDefaults, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.use = ModelUse(model)
        self.is_model_ready = True
        self.defaults = defaults
        self.decode = DecodeState(self)
        self.optimise = OptimiseState(self)
        self.start = StartState(self)
        self.start.take_use(defaults.pictures)
        self.outlook = OutlookState(self)
        self.values = _initial(defaults)
        self._restored: Path | None = None  # the model for which `optimise` was restored, before its defaults are known

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
        """Use another model, or another form of it. With other `defaults` the settings begin anew; None keeps them.

        So do those of `optimise` that are meant for one model, unless they were restored for this one.
        """
        before, values = (self.use, self.is_model_ready, self.defaults), self.values
        self.use, self.is_model_ready = use, is_ready
        if defaults is not None and defaults != self.defaults:
            negative = self.values.negative_prompt
            own = negative if negative != self.defaults.negative_prompt else defaults.negative_prompt
            self.defaults = defaults
            self.values = self._fresh(own)
            self.start.take_use(defaults.pictures)
            if use.model != self._restored:
                self.optimise.leave_model()
            self._restored = None
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
        self.optimise.change(OptimiseValues())

    def _fresh(self, negative_prompt: str) -> PromptValues:
        kept = self.values
        fresh = _initial(self.defaults)
        return replace(fresh, prompt=kept.prompt, negative_prompt=negative_prompt, seed=kept.seed)

    def restore_words(self, prompt: str, negative_prompt: str) -> None:
        """What the person wrote last time; nothing written leaves the model's own negative prompt."""
        negative = negative_prompt or self.values.negative_prompt
        self.change(replace(self.values, prompt=prompt, negative_prompt=negative))

    def restore_optimise(self, values: OptimiseValues) -> None:
        """How sampling was fitted and made fast last time with the model in use, whose defaults may yet come."""
        self._restored = self.model
        self.optimise.change(values)

    def decode_settings(self) -> DecodeSettings:
        """How latents are decoded by a job that does nothing else: within its own budget, or that of whole jobs."""
        decode = self.decode.settings()
        budget = self.optimise.values.budget_bytes if decode.budget_bytes is None else decode.budget_bytes
        return replace(decode, budget_bytes=budget)

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

    @property
    def sampled_size(self) -> tuple[int, int]:
        """What is sampled for the size that was asked for, which is cut out of it in the end. Raises INVALID_SIZE."""
        return sampled_size(self.values.width, self.values.height, self.defaults.size_multiple)

    @property
    def steps(self) -> int:
        """How many steps there will be: those of the distilled recipe, else those that were asked for."""
        recipe = self.optimise.recipe
        return self.values.steps if recipe is None else len(recipe.times)

    @property
    def can_generate(self) -> bool:
        """Whether a job may be begun, as far as the window can tell."""
        return self.has_prompt and self.is_model_ready and self.refusal() is None and not self.start.missing

    def refusal(self) -> EngineError | None:
        """What stands in the way whatever memory there is: a problem, or what the engine said; None for nothing."""
        return self.problem() or (self.outlook.refusal if self.outlook.is_invalid else None)

    def problem(self) -> EngineError | None:
        """The first setting that the engine would refuse, or None; the same checks as the engine's own."""
        try:
            sampled_size(self.values.width, self.values.height, self.defaults.size_multiple)
            check_frames(self.values.frames, TEMPORAL_FACTOR)
            check_settings(self.command(Path()))
        except EngineError as error:
            return error
        return None

    def seeds(self) -> list[int]:
        """Those of the videos that were asked for; the largest there is comes before 0."""
        return [(self.values.seed + i) % (LARGEST_SEED + 1) for i in range(self.values.videos)]

    def command(self, output: Path, seed: int | None = None) -> GenerateVideo:
        """The job that these values describe, with its MP4 at `output`, and with another `seed` where one is given."""
        values, optimise, recipe = self.values, self.optimise, self.optimise.recipe
        guidance, low = values.guidance, values.guidance_low
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
            steps=self.steps,
            guidance=guidance if recipe is None else recipe.guidance,
            guidance_low=low if recipe is None or low is None else recipe.guidance,
            shift=self.defaults.shift if recipe is None else recipe.shift,
            times=() if recipe is None else recipe.times,
            solver=optimise.solver,
            seed=values.seed if seed is None else seed,
            decode=self.decode.settings(),
            given=self.start.given(),
            sampling=optimise.values.sampling,
            rounds_input=optimise.values.rounds_input,
            budget_bytes=optimise.values.budget_bytes,
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
        guidance_low=defaults.guidance_low,
        seed=0,
    )
