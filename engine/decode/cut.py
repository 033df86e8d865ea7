"""How a decode may be cut: loop order, strips, chunks, and where the far caches wait. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class DecodeOrder(StrEnum):
    """Which loop is the outer one."""

    STRIP_MAJOR = "strip_major"
    FRAME_MAJOR = "frame_major"


class CachePlace(StrEnum):
    """Where the caches of the outer loop wait, with the stem's output."""

    CARD = "card"
    HOST = "host"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to decode latents of `latent_frames` frames to pictures of `height` rows."""

    latent_frames: int
    height: int
    order: DecodeOrder
    strip_rows: int
    chunk_latents: int
    caches: CachePlace

    @property
    def strips(self) -> int:
        """How many strips; the last may be shorter."""
        return -(-self.height // self.strip_rows)

    @property
    def chunks(self) -> int:
        """How many chunks: the first latent frame alone, then `chunk_latents` at a time."""
        return 1 + -(-(self.latent_frames - 1) // self.chunk_latents)

    @property
    def longest_chunk(self) -> int:
        """Latent frames of the longest chunk."""
        return max(1, min(self.chunk_latents, self.latent_frames - 1))

    def chunk_latent_range(self, chunk: int) -> tuple[int, int]:
        """First latent frame of `chunk` and one past its last."""
        if chunk == 0:
            return 0, 1
        start = 1 + (chunk - 1) * self.chunk_latents
        return start, min(self.latent_frames, start + self.chunk_latents)
