"""Encoders whose blocks wait in host memory: the same rows to the bit, and a small and foretold share of the card."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.decode.room import room_on_host
from engine.memory.block_swap import BlockSwap, swapped_peak
from engine.memory.predict import encoding_bytes, image_encoding_bytes
from engine.memory.simulate import LiveStorages
from engine.model_choice import WeightForm
from engine.models.image_encoder import ImageEncoder, clip_picture
from engine.models.streamed_text_encoder import encode_texts
from engine.models.text_encoder import TextEncoder
from engine.weights.detect import ModelFiles, find_model
from engine.weights.known import known_image_encoder, known_network, known_text_encoder
from engine.weights.load import load_text_encoder
from engine.weights.load_swapped import Residence, load_swapped_text_encoder, with_loras
from tests.engine.tiny_model import build_tiny_model

CPU, CARD = torch.device("cpu"), torch.device("meta")
TEXTS = ([5, 6, 7, 1], [9, 1], [4, 4, 4, 12, 30, 1])
GIB = 1 << 30


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return find_model(build_tiny_model(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("resident", [0, 1, None])
@torch.inference_mode()
def test_texts_come_out_as_from_the_whole_encoder(files: ModelFiles, resident: int | None, dtype: torch.dtype) -> None:
    """Each of several alone, padded or not."""
    whole = load_text_encoder(files, CPU, dtype)
    loaded = load_swapped_text_encoder(files, CPU, dtype, residence=Residence(resident))
    blocks: list[int] = []
    for _ in range(2):
        rows = encode_texts(loaded.network, TEXTS, loaded.swap.walk, blocks.append)
        for ids, found in zip(TEXTS, rows, strict=True):
            tensor = torch.tensor([ids])
            assert torch.equal(found, whole(tensor, torch.ones_like(tensor))[0])
    assert blocks == [0, 1] * 2  # one walk for all
    loaded.swap.close()


def test_what_is_raised_after_a_block_leaves(files: ModelFiles) -> None:
    loaded = load_swapped_text_encoder(files, CPU, torch.float32, residence=Residence(0))

    def stop(block: int) -> None:
        raise InterruptedError(block)

    with pytest.raises(InterruptedError):
        encode_texts(loaded.network, TEXTS, loaded.swap.walk, stop)
    loaded.swap.close()
    assert all(parameter.device == CPU for parameter in loaded.network.parameters())


@pytest.mark.parametrize("resident", [0, 1, 3])
@torch.inference_mode()
def test_pictures_come_out_as_from_the_whole_encoder(resident: int) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(known_image_encoder(), dim=160, mlp_dim=64, num_heads=2, num_layers=3, image_size=28)
    encoder = ImageEncoder(config).eval().requires_grad_(False)
    picture = clip_picture(torch.rand(2, 3, 40, 30) * 2 - 1, config.image_size)
    expected = encoder(picture)
    assert expected.shape == (2, config.tokens, config.dim)
    swap = BlockSwap(list(encoder.visual.transformer), CPU, resident, room_on_host)
    assert torch.equal(encoder(picture, walk=swap.walk), expected)
    swap.close()


@pytest.fixture
def _fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as the kernels of a card run it; the pretended card would make score matrices."""

    def fused(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
        return torch.empty_like(q)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)


def on_the_card(network: nn.Module, host: tuple[str, ...], blocks: str, dtype: torch.dtype) -> None:
    """Weights without values: the blocks and what is named in host memory, the shell on the card."""
    state = {
        name: torch.empty(p.shape, dtype=dtype, device=CPU if name.startswith((*host, blocks)) else CARD)
        for name, p in network.named_parameters()
    }
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False)


@pytest.mark.usefixtures("_fused")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("resident", "tokens"), [(0, [512]), (0, [512, 512]), (0, [512, 100]), (0, [20]), (24, [512])])
def test_what_encoding_takes_of_the_card(resident: int, tokens: list[int], dtype: torch.dtype) -> None:
    config = known_text_encoder()
    storages = LiveStorages()
    with FakeTensorMode(), torch.no_grad():
        with torch.device("meta"):
            encoder = TextEncoder(config)
        with storages:
            on_the_card(encoder, ("token_embedding",), "blocks.", dtype)
            for parameter in encoder.norm.parameters():
                storages.follow(parameter)
            swap = BlockSwap(list(encoder.blocks), CARD, resident, room_on_host)
            rows = encode_texts(encoder, [[3] * count for count in tokens], swap.walk)
            assert [tuple(row.shape) for row in rows] == [(count, config.dim) for count in tokens]
            swap.close()
    needed = with_loras(known_network("umt5_xxl", "bf16"), dtype, WeightForm.STORED)
    weights = needed.shell + swapped_peak(needed.blocks, resident)
    foretold = weights + encoding_bytes(config, max(tokens), dtype, len(tokens))
    assert 1 <= foretold / storages.peak["meta"] <= 1.1
    if resident == 0 and dtype is torch.bfloat16:
        assert foretold <= 1.2 * GIB


@pytest.mark.usefixtures("_fused")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("resident", [0, 12, 31])
def test_what_encoding_pictures_takes_of_the_card(resident: int, pictures: int, dtype: torch.dtype) -> None:
    config = known_image_encoder()
    storages = LiveStorages()
    with FakeTensorMode(), torch.no_grad():
        with torch.device("meta"):
            encoder = ImageEncoder(config)
        with storages:
            on_the_card(encoder, (), "visual.transformer.", dtype)
            for parameter in encoder.parameters():
                if parameter.device == CARD:
                    storages.follow(parameter)
            swap = BlockSwap(list(encoder.visual.transformer), CARD, resident, room_on_host)
            given = torch.empty(pictures, 3, 480, 832, device=CARD)
            picture: Tensor = torch.nn.functional.interpolate(given, (224, 224))  # bicubic has no kernel here
            del given
            storages.peak["meta"] = storages.live["meta"]
            assert encoder(picture, walk=swap.walk).shape == (pictures, 257, 1280)
            swap.close()
    needed = with_loras(known_network("clip_vit_h", "bf16"), dtype, WeightForm.STORED)
    foretold = needed.shell + swapped_peak(needed.blocks, resident) + image_encoding_bytes(config, pictures, dtype)
    assert 1 <= foretold / storages.peak["meta"] <= 1.1
