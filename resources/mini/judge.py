"""Judges a clip by its pixels alone: which colour, background, motion and shape does it show?

Nothing here knows the network; the verdicts on rendered clips of the world are the judge's own test.
"""

from dataclasses import dataclass

import numpy as np

from resources.mini.world import BACKGROUNDS, COLOURS, SHAPES, distance

Pixels = np.ndarray  # [T, H, W, 3] float32 in 0..1

MASK_THRESHOLD = 0.16
LEAST_PIXELS = 60
TURNING_POINT = 0.3  # of half a picture: less travel than this is standing still
SIZE_STEP = 0.3  # natural logarithm of the ratio of radii


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pixels show; None where nothing could be made out."""

    colour: str | None
    shape: str | None
    motion: str | None
    background: str


def judge(video: Pixels) -> Verdict:
    """The verdict on a clip [T, H, W, 3] in 0..1."""
    ground = ground_colours(video)
    masks = np.abs(video - ground).max(axis=-1) > MASK_THRESHOLD  # [T, H, W]
    masks = np.stack([drop_specks(mask) for mask in masks])
    seen = [t for t in range(len(video)) if masks[t].sum() >= LEAST_PIXELS]
    background = nearest_background(ground.mean(axis=(0, 1, 2)))
    if len(seen) < len(video) // 2:
        return Verdict(None, None, None, background)
    colour = nearest_colour(np.concatenate([video[t][shrink(masks[t])] for t in seen]))
    return Verdict(colour, nearest_shape([masks[t] for t in seen]), nearest_motion(masks[seen]), background)


def ground_colours(video: Pixels) -> np.ndarray:
    """The background [1, H, 1, 3] as a straight line down the picture, fitted to its left and right edges."""
    height = video.shape[1]
    edges = np.concatenate([video[:, :, :6], video[:, :, -6:]], axis=2)  # [T, H, 12, 3]
    rows = np.median(edges, axis=(0, 2))  # [H, 3]
    y = np.linspace(-1, 1, height)
    line = np.stack([np.polyval(np.polyfit(y, rows[:, c], 1), y) for c in range(3)], axis=-1)
    return line[None, :, None, :].astype(np.float32)


def drop_specks(mask: np.ndarray) -> np.ndarray:
    """`mask` without pixels that most of their 5x5 neighbours do not share."""
    padded = np.pad(mask.astype(np.int32), 2)
    sums = padded.cumsum(0).cumsum(1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    around = sums[5:, 5:] - sums[:-5, 5:] - sums[5:, :-5] + sums[:-5, :-5]
    return mask & (around >= 10)


def shrink(mask: np.ndarray) -> np.ndarray:
    """`mask` without its rim, or itself where nothing would be left."""
    inner = mask.copy()
    for _ in range(4):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner if inner.sum() >= LEAST_PIXELS // 4 else mask


def nearest_background(mean: np.ndarray) -> str:
    """The background whose colour is nearest to the mean of the fitted ground."""
    return min(BACKGROUNDS, key=lambda name: float(np.sum((np.array(BACKGROUNDS[name]) - mean) ** 2)))


def nearest_colour(pixels: np.ndarray) -> str:
    """The colour that, under the best light between 0.5 and 1.1, is nearest to the median of [N, 3] pixels."""
    seen = np.median(pixels, axis=0)

    def miss(name: str) -> float:
        colour = np.array(COLOURS[name])
        light = np.clip(colour @ seen / (colour @ colour), 0.5, 1.1)
        return float(np.sum((light * colour - seen) ** 2))

    return min(COLOURS, key=miss)


def nearest_shape(masks: list[np.ndarray]) -> str:
    """The shape with the best mean overlap (IoU) after moving and scaling it onto each mask."""
    chosen = masks[:: max(1, len(masks) // 9)]
    scores = {shape: float(np.mean([aligned_overlap(mask, shape) for mask in chosen])) for shape in SHAPES}
    return max(scores, key=lambda shape: scores[shape])


def aligned_overlap(mask: np.ndarray, shape: str) -> float:
    """IoU of `mask` and `shape` after giving it the centroid and the area of the mask."""
    grid = np.linspace(-1.3, 1.3, 261)
    gy, gx = np.meshgrid(grid, grid, indexing="ij")
    ideal = distance(shape, gx, gy) < 0
    ideal_area, ideal_x, ideal_y = ideal.sum() * 0.01**2, gx[ideal].mean(), gy[ideal].mean()
    ys, xs = np.nonzero(mask)
    radius = np.sqrt(len(xs) / ideal_area)
    gy, gx = np.mgrid[: mask.shape[0], : mask.shape[1]]
    x, y = (gx - xs.mean()) / radius + ideal_x, (gy - ys.mean()) / radius + ideal_y
    placed = distance(shape, x, y) < 0
    return float((placed & mask).sum() / (placed | mask).sum())


def nearest_motion(masks: np.ndarray) -> str | None:
    """The motion of the centroid and the size over the masks [T, H, W], or None for standing still."""
    height, width = masks.shape[1:]
    ys = np.array([np.nonzero(m)[0].mean() for m in masks]) * 2 / height - 1
    xs = np.array([np.nonzero(m)[1].mean() for m in masks]) * 2 / width - 1
    radii = np.sqrt(masks.sum(axis=(1, 2)))
    growth = float(np.log(radii[-3:].mean() / radii[:3].mean()))
    dx, dy = float(xs[-3:].mean() - xs[:3].mean()), float(ys[-3:].mean() - ys[:3].mean())
    if abs(growth) > SIZE_STEP and max(abs(dx), abs(dy)) < TURNING_POINT:
        return "growing" if growth > 0 else "shrinking"
    if max(abs(dx), abs(dy)) > TURNING_POINT:
        if abs(dx) > abs(dy):
            return "moving right" if dx > 0 else "moving left"
        return "falling" if dy > 0 else "rising"
    sway, hop = float(np.ptp(xs)), float(np.ptp(ys))
    if max(sway, hop) < TURNING_POINT:
        return None
    return "swinging" if sway > hop else "bouncing"
