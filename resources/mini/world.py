"""The world that the embedded model knows: one softly shaded shape that moves in front of a plain background.

A `Scene` says what the caption says plus the few things that it leaves open (where, how large, which light);
`render` draws any frames and any window of it. Coordinates: x right, y down, the picture spans -1..1 in both.
"""

import itertools
from dataclasses import dataclass

import numpy as np

CLIP_FRAMES = 33
CLIP_SIZE = 256
CLIP_FPS = 16
HELD_OUT_SHARE = 0.2

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.87, 0.13, 0.14),
    "orange": (0.97, 0.52, 0.08),
    "yellow": (0.97, 0.87, 0.14),
    "green": (0.20, 0.76, 0.26),
    "blue": (0.18, 0.42, 0.98),
    "purple": (0.56, 0.22, 0.82),
    "pink": (0.98, 0.52, 0.73),
    "white": (0.97, 0.97, 0.97),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "black": (0.06, 0.06, 0.08),
    "blue": (0.12, 0.20, 0.46),
    "green": (0.08, 0.31, 0.20),
    "brown": (0.37, 0.24, 0.15),
    "gray": (0.56, 0.57, 0.60),
}
SHAPES = ("ball", "square", "triangle", "star", "ring", "cross")
MOTIONS = ("moving left", "moving right", "rising", "falling", "bouncing", "swinging", "growing", "shrinking")


@dataclass(frozen=True, slots=True)
class Caption:
    """The four things that a prompt says."""

    colour: str
    shape: str
    motion: str
    background: str

    def __str__(self) -> str:
        article = "an" if self.colour[0] in "aeiou" else "a"
        return f"{article} {self.colour} {self.shape} {self.motion} on a {self.background} background"


@dataclass(frozen=True, slots=True)
class Scene:
    """A caption and what it leaves open: resting place, radius, length of the way (all in half pictures)."""

    caption: Caption
    x: float
    y: float
    radius: float
    travel: float


def all_captions() -> list[Caption]:
    """Every combination, in a fixed order."""
    return [Caption(*parts) for parts in itertools.product(COLOURS, SHAPES, MOTIONS, BACKGROUNDS)]


def split_captions() -> tuple[list[Caption], list[Caption]]:
    """Training and held-out captions; the split is part of the world and never changes."""
    captions = all_captions()
    order = np.random.default_rng(20_261).permutation(len(captions))
    held_out = round(HELD_OUT_SHARE * len(captions))
    return [captions[i] for i in order[held_out:]], [captions[i] for i in order[:held_out]]


def random_scene(caption: Caption, rng: np.random.Generator) -> Scene:
    """A scene for `caption`, with little left to chance so that a small model can learn it."""
    x, y = rng.uniform(-0.12, 0.12, size=2)
    return Scene(caption, float(x), float(y), float(rng.uniform(0.29, 0.35)), float(rng.uniform(0.42, 0.50)))


def pose(scene: Scene, time: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre x, centre y and radius at `time` (0 at the first frame, 1 at the last)."""
    still = np.zeros_like(time)
    way = scene.travel * (2 * time - 1)
    hop = scene.travel * (1 - 2 * np.abs(np.sin(2 * np.pi * time)))
    sway = scene.travel * np.sin(2 * np.pi * time)
    size = 1.5 * scene.travel * (time - 0.5)
    dx, dy, grow = {
        "moving left": (-way, still, still),
        "moving right": (way, still, still),
        "rising": (still, -way, still),
        "falling": (still, way, still),
        "bouncing": (still, hop, still),
        "swinging": (sway, still, still),
        "growing": (still, still, size),
        "shrinking": (still, still, -size),
    }[scene.caption.motion]
    return scene.x + dx, scene.y + dy, scene.radius * (1 + grow)


def distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance (negative inside) to the outline of `shape` of radius about 1."""
    match shape:
        case "ball":
            return np.hypot(x, y) - 1.0
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) - 0.86
        case "triangle":
            return np.maximum(np.abs(x) * 0.866 - (y + 0.28) * 0.5, y + 0.28 - 1.0) - 0.36
        case "star":
            return star_distance(x, y)
        case "ring":
            return np.abs(np.hypot(x, y) - 0.74) - 0.26
        case "cross":
            long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
            return np.maximum(long - 1.0, short - 0.34)
        case _:
            raise ValueError(f"not a shape: {shape}")


def star_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the edges of a five-pointed star, exact enough for soft edges."""
    angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    r = np.hypot(x, y)
    px, py = r * np.cos(angle), r * np.sin(angle)  # tip at (1.12, 0), inner corner 36 degrees away
    tip, inner = np.array([1.12, 0.0]), 0.50 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    edge = inner - tip
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return (px - tip[0]) * normal[0] + (py - tip[1]) * normal[1]


def render(
    scene: Scene,
    frames: np.ndarray | None = None,
    window: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Pixels [T, H, W, 3] float32 in 0..1 of the given frame numbers and window (top, left, height, width)."""
    frames = np.arange(CLIP_FRAMES) if frames is None else frames
    top, left, height, width = window or (0, 0, CLIP_SIZE, CLIP_SIZE)
    ys = ((np.arange(top, top + height) + 0.5) * 2 / CLIP_SIZE - 1).astype(np.float32)[None, :, None]
    xs = ((np.arange(left, left + width) + 0.5) * 2 / CLIP_SIZE - 1).astype(np.float32)[None, None, :]
    cx, cy, r = (v.astype(np.float32)[:, None, None] for v in pose(scene, frames / (CLIP_FRAMES - 1)))
    px, py = (xs - cx) / r, (ys - cy) / r
    softness = 3.0 / CLIP_SIZE  # edges fade over about three pixels
    inside = np.clip(0.5 - distance(scene.caption.shape, px, py) * r / (2 * softness), 0, 1)
    light = 1.06 - 0.22 * ((px + 0.4) ** 2 + (py + 0.5) ** 2)
    thing = np.array(COLOURS[scene.caption.colour], np.float32) * np.clip(light, 0.55, 1.06)[..., None]
    ground = np.array(BACKGROUNDS[scene.caption.background], np.float32) * (1 - 0.18 * ys)[..., None]
    mixed = ground + (thing - ground) * inside[..., None]
    return np.clip(mixed, 0, 1).astype(np.float32)


OTHER_WORDS: dict[str, tuple[str, ...]] = {
    "ball": ("circle", "sphere"),
    "square": ("box", "cube"),
    "ring": ("donut", "hoop"),
    "cross": ("plus",),
    "gray": ("grey",),
    "moving left": ("moving to the left", "going left"),
    "moving right": ("moving to the right", "going right"),
    "rising": ("moving up", "going up"),
    "falling": ("moving down", "dropping"),
    "growing": ("getting bigger",),
    "shrinking": ("getting smaller",),
    "swinging": ("swaying",),
    "bouncing": ("jumping",),
}
FORMS = (
    "a {colour} {shape} {motion} on a {background} background",
    "A {colour} {shape} {motion} on a {background} background.",
    "the {colour} {shape} is {motion} in front of a {background} background",
    "{colour} {shape}, {motion}, {background} background",
)
MOTION_FORMS = ("{motion}", "it is {motion}", "the thing is {motion}")


def wording(caption: Caption, rng: np.random.Generator) -> str:
    """The caption as a person might put it; three times in four in its usual form."""
    if rng.random() < 0.75:
        return str(caption)

    def word(usual: str) -> str:
        choices = (usual, *OTHER_WORDS.get(usual, ()))
        return choices[rng.integers(len(choices))]

    form = FORMS[rng.integers(len(FORMS))]
    return form.format(
        colour=caption.colour,
        shape=word(caption.shape),
        motion=word(caption.motion),
        background=word(caption.background),
    )


def motion_wording(caption: Caption, rng: np.random.Generator) -> str:
    """The motion alone, as a person might put it who has shown a picture of the rest."""
    choices = (caption.motion, *OTHER_WORDS[caption.motion])
    motion = choices[rng.integers(len(choices))]
    return MOTION_FORMS[rng.integers(len(MOTION_FORMS))].format(motion=motion)
