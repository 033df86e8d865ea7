"""One trial of the embedded model: what it is asked, what its clip shows, and the table of many."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from resources.mini.judge import Verdict
from resources.mini.world import Caption, random_scene, render

LIMITS = {"colour": 95, "background": 95, "motion": 85, "shape": 75}  # percent of right verdicts
VAE_LIMIT_DB = 30
FIRST_FRAME_LIMIT_DB = 30  # of what the MP4 begins with against the picture that was given


class Road(StrEnum):
    """What of a held-out caption the model is told, and how."""

    PROMPT = "prompt"
    PICTURE = "first frame and prompt"
    MOTION = "first frame and only the motion"
    WORDLESS = "first frame and no prompt"

    @property
    def has_picture(self) -> bool:
        """Whether the clip begins with a rendered picture."""
        return self is not Road.PROMPT

    @property
    def says_motion(self) -> bool:
        """Whether the motion is told; how the thing could go on is otherwise only a guess."""
        return self is not Road.WORDLESS

    def prompt(self, caption: Caption) -> str:
        """The words for a clip of `caption`."""
        return {Road.MOTION: caption.motion, Road.WORDLESS: ""}.get(self, str(caption))


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out caption; `seed` is that of the noise and of the scene whose first frame is shown."""

    caption: Caption
    road: Road
    seed: int

    def first_frame(self) -> np.ndarray:
        """Pixels [H, W, 3] uint8 of how the clip is to begin."""
        scene = random_scene(self.caption, np.random.default_rng(self.seed))
        return (render(scene, np.array([0]))[0] * 255).round().astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Trial:
    """A question, what its clip shows, how near it begins to the given picture, and the seconds from asking to MP4."""

    question: Question
    verdict: Verdict
    first_frame_db: float | None
    seconds: float

    def right(self, part: str) -> bool:
        """Whether the clip shows this part of the caption."""
        return bool(getattr(self.question.caption, part) == getattr(self.verdict, part))


def table(trials: Sequence[Trial]) -> str:
    """Every road's results under the limits, as Markdown."""
    lines = [f"| held-out | {' | '.join(LIMITS)} | all four | first frame |", "|---" * (len(LIMITS) + 3) + "|"]
    limits = " | ".join(f"{limit} %" for limit in LIMITS.values())
    lines.append(f"| limit | {limits} | | {FIRST_FRAME_LIMIT_DB} dB |")
    for road in Road:
        of_road = [trial for trial in trials if trial.question.road is road]
        if of_road:
            lines.append(f"| {road}, {len(of_road)} clips | {' | '.join(_shares(of_road))} | {_first_frame(of_road)} |")
    return "\n".join(lines) + "\n"


def _shares(trials: Sequence[Trial]) -> list[str]:
    said = [part for part in LIMITS if part != "motion" or trials[0].question.road.says_motion]
    right = {part: f"{100 * np.mean([trial.right(part) for trial in trials]):.1f} %" for part in LIMITS}
    if len(said) < len(LIMITS):
        return [right[part] if part in said else f"({right[part]})" for part in LIMITS] + [""]
    return [*right.values(), f"{100 * np.mean([all(trial.right(part) for part in LIMITS) for trial in trials]):.1f} %"]


def _first_frame(trials: Sequence[Trial]) -> str:
    values = [trial.first_frame_db for trial in trials if trial.first_frame_db is not None]
    return f"{np.mean(values):.1f} dB" if values else ""
