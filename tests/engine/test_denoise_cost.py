"""Predicted peaks and operations of sampling against a step without values: never below, at most 10 % above."""

import dataclasses
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from engine.denoise.cost import Sampling, pass_flop, sampling_cost
from engine.generation import AttentionBackend
from engine.memory.simulate_sampling import network_bytes_of, network_without_values, simulate_sampling
from engine.models.rope import Grid
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.weights.card import NetworkBytes
from tests.engine.tiny_model import TRANSFORMER
from tests.parity.transformer_twin import COARSE, NARROW

GIB = 2**30
BF16, FP32 = torch.bfloat16, torch.float32
WAN_1_3B = TransformerConfig(num_layers=3)  # three layers show what one leaves behind, and two slots that are shared
WAN_14B = TransformerConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=3)
I2V_14B = dataclasses.replace(WAN_14B, in_dim=36, image_dim=1280)
I2V_A14B = dataclasses.replace(WAN_14B, in_dim=36)
TI2V_5B = TransformerConfig(dim=3072, ffn_dim=14336, num_heads=24, num_layers=3, in_dim=48, out_dim=48)
TINY_LATENT, P480, P720, STILL, P704 = (9, 32, 32), (21, 60, 104), (21, 90, 160), (1, 60, 104), (31, 44, 80)

# Config, latents, dtype of products, of what is used in float32, eight bits, resident blocks, tokens of a piece.
Point = tuple[TransformerConfig, Grid, torch.dtype, torch.dtype, bool, int, int, dict[str, Any]]
POINTS: dict[str, Point] = {
    "tiny": (TRANSFORMER, TINY_LATENT, FP32, FP32, False, 2, 2304, {"passes": 2}),
    "tiny, none resident": (TRANSFORMER, TINY_LATENT, BF16, FP32, False, 0, 300, {}),
    "1.3B": (WAN_1_3B, P480, BF16, BF16, False, 3, 8192, {"passes": 2}),
    "1.3B, all at once": (WAN_1_3B, P480, BF16, FP32, False, 0, 32760, {"passes": 2}),
    "1.3B, float32": (WAN_1_3B, P480, FP32, FP32, False, 3, 8192, {"passes": 2}),
    "1.3B, float32, all at once": (WAN_1_3B, P480, FP32, FP32, False, 2, 32760, {}),
    "1.3B, joint": (WAN_1_3B, P480, BF16, FP32, False, 1, 8192, {"batch": 2}),
    "1.3B, joint, all at once": (WAN_1_3B, STILL, FP32, FP32, False, 0, 1560, {"batch": 2}),
    "14B still": (WAN_14B, STILL, BF16, BF16, False, 0, 512, {"passes": 2}),
    "14B still, eight bits": (WAN_14B, STILL, BF16, FP32, True, 0, 1560, {"passes": 2}),
    "14B, all at once": (WAN_14B, P720, BF16, FP32, False, 3, 75600, {"passes": 2}),
    "14B, eight bits, all at once": (WAN_14B, P720, BF16, BF16, True, 3, 75600, {}),
    "14B, eight bits, half": (WAN_14B, P480, BF16, BF16, True, 1, 16384, {"passes": 2}),
    "14B, float32": (WAN_14B, STILL, FP32, FP32, False, 1, 600, {"passes": 2}),
    "I2V 14B": (I2V_14B, P480, BF16, BF16, False, 0, 16384, {"passes": 2, "image_tokens": 257}),
    "I2V 14B still, joint": (I2V_14B, STILL, BF16, FP32, True, 0, 700, {"batch": 2, "image_tokens": 257}),
    "I2V A14B": (I2V_A14B, P720, BF16, FP32, False, 2, 30000, {"passes": 2}),
    "TI2V 5B": (TI2V_5B, P704, BF16, BF16, False, 0, 4096, {"passes": 2, "runs": 31}),
    "TI2V 5B, all at once": (TI2V_5B, P704, BF16, FP32, False, 3, 27280, {"runs": 31}),
    "TI2V 5B, a frame": (TI2V_5B, P704, FP32, FP32, True, 0, 8800, {"runs": 31}),
    "TI2V 5B, sage": (TI2V_5B, P704, BF16, BF16, False, 0, 8192, {"attention": AttentionBackend.SAGEATTN}),
    "1.3B, sage in four bits": (
        WAN_1_3B, P480, BF16, BF16, False, 0, 8192, {"attention": AttentionBackend.SAGEATTN_3_FP4},
    ),
}  # fmt: skip


def both(point: Point) -> tuple[int, int]:
    """The predicted and the simulated peak."""
    config, latent_size, dtype, islands, fp8, resident, chunk, more = point
    with FakeTensorMode():
        network = network_without_values(config, dtype, islands, fp8=fp8)
        sampling = Sampling(config, latent_size, dtype, network_bytes_of(network), **more)
        simulated = simulate_sampling(sampling, network, resident, chunk)
    return sampling_cost(sampling, resident, chunk).peak_bytes, simulated.peak_bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", POINTS)
def test_the_prediction_holds(name: str) -> None:
    predicted, simulated = both(POINTS[name])
    room = 17 << 20 if "tiny" in name else 0  # of a kernel's partial results, which are the same for every size
    assert simulated <= predicted <= 1.1 * simulated + room


FULL_1_3B, FULL_14B = dataclasses.replace(WAN_1_3B, num_layers=30), dataclasses.replace(WAN_14B, num_layers=40)
# Products in eight bits or bfloat16, no block resident: GiB that are promised, tokens of a piece. Files store what is
# used in float32 in either.
LIMITS = {
    "14B 720p": (FULL_14B, P720, True, 4.5, 4096),
    "14B 480p": (FULL_14B, P480, True, 2.6, 2048),
    "1.3B 480p": (FULL_1_3B, P480, False, 1.2, 4096),
}


@pytest.mark.slow
@pytest.mark.parametrize("islands", [BF16, FP32])
@pytest.mark.parametrize("name", LIMITS)
def test_promised_limits(name: str, islands: torch.dtype) -> None:
    config, latent_size, fp8, gib, chunk = LIMITS[name]
    with FakeTensorMode():
        # Swapped blocks share two slots, so that two of them take on the card what all take.
        network = network_without_values(dataclasses.replace(config, num_layers=2), BF16, islands, fp8=fp8)
        sampling = Sampling(network.config, latent_size, BF16, network_bytes_of(network), passes=2)
        simulated = simulate_sampling(sampling, network, 0, chunk)
    assert simulated.peak_bytes <= gib * GIB
    whole = dataclasses.replace(sampling.network, blocks=sampling.network.blocks[:1] * config.num_layers)
    predicted = sampling_cost(dataclasses.replace(sampling, config=config, network=whole), 0, chunk).peak_bytes
    assert simulated.peak_bytes <= predicted <= gib * GIB


def sampling_of(config: TransformerConfig, latent_size: Grid, **more: Any) -> Sampling:  # noqa: ANN401 (any field)
    network = NetworkBytes(1000, (100,) * config.num_layers, 0)
    return Sampling(config, latent_size, FP32, network, **more)


@pytest.mark.parametrize(
    ("config", "latent_size", "batch", "image_tokens", "runs"),
    [
        (TRANSFORMER, (3, 8, 8), 1, 0, 1),
        (NARROW, (2, 4, 6), 2, 0, 2),
        (dataclasses.replace(COARSE, image_dim=40), (2, 8, 12), 1, 7, 12),
    ],
)
def test_operations(config: TransformerConfig, latent_size: Grid, batch: int, image_tokens: int, runs: int) -> None:
    model, counter = WanTransformer(config), FlopCounterMode(display=False)
    image = torch.randn(batch, image_tokens, config.image_dim) if image_tokens else None
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        latents, text = (
            torch.randn(batch, config.in_dim, *latent_size),
            torch.randn(batch, config.text_len, config.text_dim),
        )
        model(latents, torch.rand(batch, runs), text, image=image)
    sampling = sampling_of(config, latent_size, batch=batch, image_tokens=image_tokens, runs=runs)
    assert pass_flop(sampling) == counter.get_total_flops()


def test_what_a_step_copies_and_what_waits() -> None:
    sampling = sampling_of(COARSE, (2, 8, 12), passes=2)
    all_resident, one = (sampling_cost(sampling, resident, 4) for resident in (3, 1))
    assert (all_resident.copied_bytes, all_resident.host_bytes) == (0, 0)
    assert (one.copied_bytes, one.host_bytes) == (2 * 200, 200)
    assert one.flop == all_resident.flop == 2 * pass_flop(sampling)


def test_loading_may_be_what_takes_most() -> None:
    sampling = sampling_of(COARSE, (2, 8, 12))
    network = dataclasses.replace(sampling.network, loading=10**9)
    peak = sampling_cost(dataclasses.replace(sampling, network=network), 3, 4).peak_bytes
    assert peak == 10**9 + 1000 + 300


@pytest.mark.parametrize("more", [{"passes": 2}, {"step_cache": True}, {"beside_bytes": 5000}, {"runs": 2}])
def test_what_lies_beside_counts(more: dict[str, Any]) -> None:
    plain, with_more = sampling_of(COARSE, (2, 8, 12)), sampling_of(COARSE, (2, 8, 12), **more)
    assert sampling_cost(with_more, 0, 4).peak_bytes > sampling_cost(plain, 0, 4).peak_bytes
