"""Where overlapping tiles lie and how they are blended, per axis and in pixels. Pure and torch-free; any thread.

The scheme is that of `tiled_decode` in DiffSynth's Wan VAE, which the WanVideoDecode node of ComfyUI runs.
"""

from dataclasses import dataclass

from engine.errors import EngineError, ErrorCode


@dataclass(frozen=True, slots=True)
class ReferenceTiling:
    """Sizes of the tiles and from one to the next, in pixels; the defaults are the node's.

    The node hands its x settings on as heights and its y settings as widths, which shows in the strides: here the
    heights are its `tile_x` and `tile_stride_x`. It counts eight pixels to a latent whatever the VAE; with one of 16
    pixels to a latent (Wan 2.2) its settings mean twice as many pixels.
    """

    tile_height: int = 272
    tile_width: int = 272
    stride_height: int = 144
    stride_width: int = 128


@dataclass(frozen=True, slots=True)
class TileSpan:
    """Rows or columns [start, stop) of a tile in a picture of `length`, blended over `border` at its inner edges."""

    start: int
    stop: int
    length: int
    border: int

    @property
    def size(self) -> int:
        """Rows or columns of the tile; fewer than asked for where the picture ends."""
        return self.stop - self.start

    def weights(self) -> tuple[float, ...]:
        """How much each row or column counts: 1/border at an inner edge, growing linearly to 1.

        Where a tile is shorter than two borders the falling ramp is the one that holds, not the smaller of the two.
        A tile with an inner edge is always longer than one border (`tile_spans`).
        """
        return tuple(self._weight(i) for i in range(self.size))

    def _weight(self, i: int) -> float:
        if self.stop < self.length and self.size - i <= self.border:
            return (self.size - i) / self.border
        if self.start > 0 and i < self.border:
            return (i + 1) / self.border
        return 1.0


def tile_spans(length: int, size: int, stride: int) -> tuple[TileSpan, ...]:
    """The tiles along an axis of `length`: one at every multiple of `stride` until one reaches the end.

    The tile before a start reaches the end if no more than the border is left from there on; such a start is skipped.
    """
    border = size - stride
    starts = range(0, max(1, length - border), stride)
    return tuple(TileSpan(start, min(start + size, length), length, border) for start in starts)


def tile_rows(tiling: ReferenceTiling, height: int) -> tuple[TileSpan, ...]:
    """The rows of tiles in a picture of `height`, from the top."""
    return tile_spans(height, tiling.tile_height, tiling.stride_height)


def tile_columns(tiling: ReferenceTiling, width: int) -> tuple[TileSpan, ...]:
    """The columns of tiles in a picture of `width`, from the left."""
    return tile_spans(width, tiling.tile_width, tiling.stride_width)


def check_tiling(tiling: ReferenceTiling, spatial_factor: int) -> None:
    """Raise INVALID_SETTING unless tiles and strides are whole latents of `spatial_factor` pixels and tiles overlap."""
    _check_axis("height", tiling.tile_height, tiling.stride_height, spatial_factor)
    _check_axis("width", tiling.tile_width, tiling.stride_width, spatial_factor)


def _check_axis(axis: str, size: int, stride: int, factor: int) -> None:
    if size < 2 * factor or size % factor:
        allowed = f"multiples of {factor}, {2 * factor} or more"
        raise EngineError(ErrorCode.INVALID_SETTING, name=f"tile_{axis}", value=size, allowed=allowed)
    if not 0 < stride < size or stride % factor:
        allowed = f"multiples of {factor}, {factor} - {size - factor}"
        raise EngineError(ErrorCode.INVALID_SETTING, name=f"stride_{axis}", value=stride, allowed=allowed)
