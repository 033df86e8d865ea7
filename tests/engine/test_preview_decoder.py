"""The preview decoder: names as published, one function whole or in a stream, values computed anew, bounded memory."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.memory.predict_preview import preview_peak
from engine.memory.simulate import CARD, LiveStorages
from engine.models.preview_decoder import PreviewDecoder, PreviewDecoderConfig, StreamState
from tests.engine.random_preview_decoder import CONFIGS, TINY, TINY_SUPER, manifest, random_decoder

Frames = list[np.ndarray]  # of [C, H, W], float64
ALL = [*CONFIGS.values(), TINY, TINY_SUPER]


def random_latents(config: PreviewDecoderConfig, frames: int, rows: int = 3, columns: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(1, frames, config.latent_channels, rows, columns, generator=generator)


@pytest.mark.parametrize("name", CONFIGS)
def test_names_shapes_and_layers_are_the_published_ones(name: str) -> None:
    published = manifest(name)
    with torch.device("meta"):
        decoder = PreviewDecoder(CONFIGS[name])
    tensors = {key: shape for key, shape in published["tensors"].items() if not key.startswith("encoder.")}
    assert {key: list(tensor.shape) for key, tensor in decoder.state_dict().items()} == tensors
    kinds = [type(layer).__name__ for layer in decoder.decoder]
    assert kinds == [kind.partition("(")[0] for kind in published["config"]["decoder_layers"].values()]


# Double precision shows one function to the last digits; in single precision the convolutions of one frame and of many
# round differently, which a picture of eight bits is a thousand times too coarse to show.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 4e-6)])
@pytest.mark.parametrize("config", ALL, ids=str)
def test_a_stream_gives_the_frames_of_the_whole(
    config: PreviewDecoderConfig, dtype: torch.dtype, tolerance: float
) -> None:
    decoder, latents = random_decoder(config).to(dtype), random_latents(config, frames=4).to(dtype)
    whole = decoder(latents)
    factor = config.spatial_factor
    assert whole.shape == (1, 13, 3, 3 * factor, 4 * factor)
    assert whole.std() > 0.1
    state = StreamState()
    streamed = [list(decoder.stream(latent, state)) for latent in latents.unbind(1)]
    assert [len(pictures) for pictures in streamed] == [1, 4, 4, 4]
    assert (torch.cat([picture for pictures in streamed for picture in pictures]) - whole[0]).abs().max() <= tolerance
    state = StreamState()
    last = torch.cat([decoder.last_picture(latent, state) for latent in latents.unbind(1)])
    assert (last - whole[0, ::4]).abs().max() <= tolerance


def test_a_frame_depends_on_the_past_and_never_on_the_future() -> None:
    decoder, latents = random_decoder(TINY), random_latents(TINY, frames=3)
    changed = latents.clone()
    changed[:, 1] += 1
    differs = (decoder(changed) - decoder(latents)).abs().amax(dim=(0, 2, 3, 4)) > 1e-4
    assert differs.tolist() == [False] + [True] * 8


@pytest.mark.parametrize("name", CONFIGS)
def test_the_values_are_those_of_a_computation_by_hand(name: str) -> None:
    config = CONFIGS[name]
    decoder, latents = random_decoder(config), random_latents(config, frames=2, rows=2, columns=3)
    weights = {key: tensor.double().numpy() for key, tensor in decoder.state_dict().items()}
    frames = list(latents[0].double().numpy())
    for index, kind in manifest(name)["config"]["decoder_layers"].items():
        prefix = f"decoder.{index}."
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        frames = LAYERS[kind.partition("(")[0]](frames, own)
    frames = shuffled(frames, config.patch_size)[manifest(name)["config"]["frames_to_trim"] :]
    expected = np.clip(np.stack(frames), 0, 1)
    assert np.abs(decoder(latents)[0].numpy() - expected).max() <= 1e-5


Weights = dict[str, np.ndarray]


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Zero-padded convolution, one place of the kernel after the other; one input channel means one by channel."""
    size, (_, height, width) = weight.shape[-1], x.shape
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    out = np.zeros((len(weight), height, width))
    for dy in range(size):
        for dx in range(size):
            part, tap = padded[:, dy : dy + height, dx : dx + width], weight[:, :, dy, dx]
            out += tap[:, :, None] * part if weight.shape[1] == 1 else np.tensordot(tap, part, 1)
    return out if bias is None else out + bias[:, None, None]


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0)


def shuffled(frames: Frames, size: int) -> Frames:
    """Channel c * size^2 + dy * size + dx becomes the pixel (dy, dx) of every place."""
    out = [np.zeros((len(x) // size**2, x.shape[1] * size, x.shape[2] * size)) for x in frames]
    for x, larger in zip(frames, out, strict=True):
        for dy in range(size):
            for dx in range(size):
                larger[:, dy::size, dx::size] = x[dy * size + dx :: size**2]
    return out


def grown(frames: Frames, own: Weights) -> Frames:
    """One frame after the other for each: the first C rows of the matrix, then the next."""
    matrix = own["conv.weight"][:, :, 0, 0]
    parts = np.split(matrix, len(matrix) // matrix.shape[1])
    return [np.tensordot(part, x, 1) for x in frames for part in parts]


def remembering(frames: Frames, own: Weights, layers: tuple[int, ...], *, ends_positive: bool) -> Frames:
    """The convolutions number `layers` over a frame and the one before it; a ReLU stands after all but two of them.

    In the super block the convolution by channel has none either.
    """
    out, past = [], np.zeros_like(frames[0])
    for x in frames:
        y = np.concatenate([x, past])
        for layer in layers:
            y = convolved(y, own[f"conv.{layer}.weight"], own.get(f"conv.{layer}.bias"))
            by_channel = own[f"conv.{layer}.weight"].shape[1] == 1
            y = y if layer == layers[-1] or by_channel else relu(y)
        out.append(relu(y + x) if ends_positive else y + x)
        past = x
    return out


LAYERS: dict[str, Callable[[Frames, Weights], Frames]] = {
    "Clamp": lambda frames, _: [3 * np.tanh(x / 3) for x in frames],
    "Conv2d": lambda frames, own: [convolved(x, own["weight"], own.get("bias")) for x in frames],
    "ReLU": lambda frames, _: [relu(x) for x in frames],
    "Upsample": lambda frames, _: [x.repeat(2, axis=1).repeat(2, axis=2) for x in frames],
    "PixelShuffle": lambda frames, _: shuffled(frames, 2),
    "TGrow": grown,
    "MemBlock": lambda frames, own: remembering(frames, own, (0, 2, 4), ends_positive=True),
    "SuperMemBlock": lambda frames, own: remembering(frames, own, (0, 1, 3), ends_positive=False),
}


def simulated_peak(
    config: PreviewDecoderConfig, size: tuple[int, int, int], dtype: torch.dtype, method: str = "last_picture"
) -> int:
    """Live bytes of the decoder and of latents of `size` (T, h, w) going through it one frame at a time."""
    storages, state = LiveStorages(), StreamState()
    frames, rows, columns = size
    with FakeTensorMode(), torch.no_grad():
        with torch.device(CARD):
            decoder = PreviewDecoder(config)
        values = {name: torch.empty(p.shape, dtype=dtype, device=CARD) for name, p in decoder.named_parameters()}
        decoder.load_state_dict(values, assign=True)
        del values
        with storages:
            for parameter in decoder.parameters():
                storages.follow(parameter)
            for _ in range(frames):
                latent = torch.empty(1, config.latent_channels, rows, columns, dtype=dtype, device=CARD)
                made = getattr(decoder, method)(latent, state)
                for picture in [made] if method == "last_picture" else made:
                    assert picture.shape == (1, 3, rows * config.spatial_factor, columns * config.spatial_factor)
                del picture, made
    return storages.peak[CARD]


@pytest.mark.parametrize("method", ["stream", "last_picture"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_memory_does_not_grow_with_the_clip(config: PreviewDecoderConfig, method: str) -> None:
    peaks = [simulated_peak(config, (frames, 20, 30), torch.float32, method) for frames in (2, 5)]
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [(1, 6, 8), (3, 60, 104), (2, 90, 160)])
@pytest.mark.parametrize("config", ALL, ids=str)
def test_the_predicted_peak_holds(config: PreviewDecoderConfig, size: tuple[int, int, int], dtype: torch.dtype) -> None:
    assert 1 <= preview_peak(config, size, dtype) / simulated_peak(config, size, dtype) <= 1.1


def test_a_stop_is_heard_before_every_layer() -> None:
    decoder, latent = random_decoder(TINY), random_latents(TINY, frames=1)[:, 0]
    heard: list[None] = []
    decoder.last_picture(latent, StreamState(), lambda: heard.append(None))
    assert len(heard) == 14 + 2 * 4 + 5, "up to the layer that makes two frames, from it to the last memory, behind it"
