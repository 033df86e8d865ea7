"""What a sample is given beside its noise: pictures as channels, as known latent frames, or a clip to start from. Pure.

Written from the formulas of the official ``wan/image2video.py``, ``wan/first_last_frame2video.py`` and
``wan/textimage2video.py``. B batch, z latent channels, T latent frames, h w of the latents, k known latent frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

KNOWN_TIME = 0.0  # of frames without noise


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """What steers a sample beside the text; None for what is not given.

    channels: [1, m+z, T, h, w], mask and latents of given pictures, which follow those of the noise. known: clean
    latents [1, z, k, h, w] of the first frames. start: clean latents [1, z, T, h, w] of a clip that is noised up.
    image: features [1, I, C] of pictures.
    """

    channels: Tensor | None = None
    known: Tensor | None = None
    start: Tensor | None = None
    image: Tensor | None = None

    def to(self, device: torch.device) -> "Conditioning":
        """The same on `device`."""
        values = (self.channels, self.known, self.start, self.image)
        return Conditioning(*(None if value is None else value.to(device) for value in values))


NOTHING_GIVEN = Conditioning()


def given_mask(given: int, latent_size: tuple[int, int, int], temporal_factor: int, *, has_last: bool) -> Tensor:
    """Which frames are given, [1, temporal_factor, T, h, w]: 1 for the first `given` ones, and for the last if it is.

    The frames of a latent frame are the channels of its mask; the first latent frame, of one frame, repeats it.
    """
    latent_frames, height, width = latent_size
    frames = torch.zeros(temporal_factor * (latent_frames - 1) + 1)
    frames[:given] = 1
    if has_last:
        frames[-1] = 1
    repeated = torch.cat([frames[:1].repeat(temporal_factor), frames[1:]])
    mask = repeated.view(latent_frames, temporal_factor).T  # [temporal_factor, T]
    return mask[None, :, :, None, None].expand(-1, -1, -1, height, width)


def picture_channels(mask: Tensor, latents: Tensor) -> Tensor:
    """The channels after those of the noise: `mask` [1, m, T, h, w], then normalised `latents` [1, z, T, h, w]."""
    return torch.cat([mask.to(latents), latents], dim=1)


def network_input(x: Tensor, conditioning: Conditioning) -> Tensor:
    """Noisy latents x [B, z, T, h, w] as the transformer takes them, [B, in_dim, T, h, w]."""
    channels = conditioning.channels
    return x if channels is None else torch.cat([x, channels.to(x).expand(len(x), -1, -1, -1, -1)], dim=1)


def times_of(time: Tensor, conditioning: Conditioning, latent_frames: int) -> Tensor:
    """The times that the transformer is told: `time` [B], or [B, T] with 0 for known frames."""
    if conditioning.known is None:
        return time
    times = time[:, None].repeat(1, latent_frames)
    times[:, : conditioning.known.shape[2]] = KNOWN_TIME
    return times


def with_known(x: Tensor, conditioning: Conditioning) -> Tensor:
    """x [B, z, T, h, w] with its known frames as they are: before the first step, after each, and when it is shown."""
    known = conditioning.known
    if known is None:
        return x
    return torch.cat([known.to(x).expand(len(x), -1, -1, -1, -1), x[:, :, known.shape[2] :]], dim=2)


def started(noise: Tensor, sigma: float, conditioning: Conditioning) -> Tensor:
    """Where sampling starts from at the noise level `sigma`: noise [1, z, T, h, w], or a clip noised up to it.

    (1 - s) * x0 + s * noise.
    """
    start = conditioning.start
    x = noise if start is None else (1 - sigma) * start.to(noise) + sigma * noise
    return with_known(x, conditioning)
