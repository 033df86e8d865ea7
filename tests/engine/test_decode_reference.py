"""Overlap-and-blend against a plain re-computation: other loops, other masks, another decoder for every tile."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from engine.cancel import Cancelled
from engine.commands import DecodeMode, DecodeSettings
from engine.decode.cost import CutCost
from engine.decode.reference import reference_blocks
from engine.decode.reference_cost import reference_cost
from engine.decode.strip_layers import Step, StripHead
from engine.decode.tiling import ReferenceTiling, check_tiling, tile_columns, tile_rows, tile_spans
from engine.errors import EngineError, ErrorCode
from engine.memory.simulate import CARD, HOST, LiveStorages, decoder_without_values
from engine.models.video_vae import VideoVae, VideoVaeConfig
from tests.engine.decode_cases import DEEP, FULL, NARROW, Case, latents_of, network, plain, planned, streamed

Shape = tuple[int, int, int]
CASES: list[tuple[Shape, ReferenceTiling]] = [
    ((2, 8, 8), ReferenceTiling(48, 48, 32, 32)),  # the last tiles are cut
    ((3, 10, 6), ReferenceTiling(48, 32, 32, 24)),  # the last tiles end where the picture ends, 80 = 32 + 48
    ((2, 11, 5), ReferenceTiling(32, 24, 8, 16)),  # four tiles over a row: ramps meet, finished rows are few
    ((2, 5, 13), ReferenceTiling(24, 48, 16, 16)),  # the same over a column
    ((1, 9, 10), ReferenceTiling(40, 32, 16, 24)),  # one frame
    ((2, 3, 9), ReferenceTiling(48, 32, 8, 16)),  # one row of tiles
    ((2, 9, 3), ReferenceTiling(32, 48, 24, 8)),  # one column
    ((2, 4, 5), ReferenceTiling(16, 16, 8, 8)),  # the smallest tiles there are
]


@pytest.fixture(scope="module")
def vae() -> VideoVae:
    return network(NARROW)


def starts_of(length: int, size: int, stride: int) -> Iterator[int]:
    """The rule as it is told: every multiple of the stride, unless the tile before it already got to the end."""
    for start in itertools.takewhile(lambda s: s < length, itertools.count(0, stride)):
        before = start - stride
        if before < 0 or before + size < length:
            yield start


def plain_weights(start: int, size: int, stride: int, length: int) -> Tensor:
    """Weights of the tile's pixels along one axis; where both ramps would lie, it is the one at the far edge."""
    border, count = size - stride, min(size, length - start)
    near = torch.arange(1, count + 1) / border
    far = near.flip(0)
    near_edge = (near < 1) & torch.tensor(start != 0)
    far_edge = (far <= 1) & torch.tensor(start + size < length)
    return torch.where(far_edge, far, torch.where(near_edge, near, 1.0))


def blended(vae: VideoVae, latents: Tensor, tiling: ReferenceTiling) -> Tensor:
    """The whole picture's sums at once, [3, F, H, W]."""
    factor, (frames, height, width) = vae.config.spatial_factor, latents.shape[2:]
    values = torch.zeros(3, vae.config.frames(frames), height * factor, width * factor)
    total = torch.zeros(height * factor, width * factor)
    for top in starts_of(height * factor, tiling.tile_height, tiling.stride_height):
        down = plain_weights(top, tiling.tile_height, tiling.stride_height, height * factor)
        for left in starts_of(width * factor, tiling.tile_width, tiling.stride_width):
            across = plain_weights(left, tiling.tile_width, tiling.stride_width, width * factor)
            part = latents[..., top // factor :, left // factor :]
            tile = plain(vae, part[..., : tiling.tile_height // factor, : tiling.tile_width // factor])
            weights = torch.stack([down[:, None].expand(*tile.shape[2:]), across.expand(*tile.shape[2:])]).amin(0)
            bottom, right = top + tile.shape[2], left + tile.shape[3]
            values[:, :, top:bottom, left:right] += tile.float() * weights
            total[top:bottom, left:right] += weights
    return values / total


def tiled(vae: VideoVae, latents: Tensor, tiling: ReferenceTiling) -> Tensor:
    """All blocks put together, [3, F, H, W]; fails where a row comes twice, out of order, or not at all."""
    parts: list[Tensor] = []
    for block in reference_blocks(vae, latents, tiling):
        assert block.rgb.dtype is torch.float32
        assert block.rgb.device.type == "cpu"
        assert (block.frame_start, block.row_start) == (0, sum(part.shape[2] for part in parts))
        parts.append(block.rgb)
    picture = torch.cat(parts, dim=2)
    frames, height, width = latents.shape[2:]
    factor = vae.config.spatial_factor
    assert picture.shape == (3, vae.config.frames(frames), height * factor, width * factor)
    assert len(parts) == len(tile_rows(tiling, height * factor))
    return picture


@pytest.mark.parametrize(("shape", "tiling"), CASES)
def test_it_is_the_blend_of_tiles_decoded_alone(shape: Shape, tiling: ReferenceTiling, vae: VideoVae) -> None:
    latents = latents_of(shape)
    assert (tiled(vae, latents, tiling) - blended(vae, latents, tiling)).abs().max() <= 1e-5


def test_it_is_so_for_a_deeper_network() -> None:
    vae, latents, tiling = network(DEEP), latents_of((2, 7, 6)), ReferenceTiling(32, 32, 16, 24)
    assert (tiled(vae, latents, tiling) - blended(vae, latents, tiling)).abs().max() <= 1e-5


def test_half_precision_is_blended_in_full() -> None:
    half, latents, tiling = network(NARROW, torch.bfloat16), latents_of((2, 6, 5)), ReferenceTiling(32, 32, 24, 16)
    exact = blended(network(NARROW), latents, tiling)
    rounding = (blended(half, latents, tiling) - exact).abs().mean()
    assert (tiled(half, latents, tiling) - exact).abs().mean() <= 1.1 * rounding


@pytest.mark.parametrize("shape", [(3, 6, 4), (1, 2, 6), (2, 1, 1)])
def test_a_picture_inside_one_tile_is_decoded_whole(shape: Shape, vae: VideoVae) -> None:
    latents = latents_of(shape)
    whole = planned(Case(shape, DecodeSettings(DecodeMode.WHOLE, None, 1)), NARROW)
    picture = tiled(vae, latents, ReferenceTiling(48, 48, 32, 32))
    assert torch.equal(picture, streamed(vae, latents, whole))
    assert (picture - plain(vae, latents)).abs().max() <= 1e-5


def test_a_tile_that_is_cut_for_want_of_memory_is_the_same(vae: VideoVae, monkeypatch: pytest.MonkeyPatch) -> None:
    latents, tiling, strips = latents_of((2, 5, 5)), ReferenceTiling(32, 32, 16, 24), []
    expected = tiled(vae, latents, tiling)
    convolve = StripHead.__call__

    def convolve_if_small(self: StripHead, x: Tensor, step: Step) -> Tensor:
        strips.append(step.rows[-1].out)
        if strips[-1] > 16:
            raise torch.OutOfMemoryError
        return convolve(self, x, step)

    monkeypatch.setattr(StripHead, "__call__", convolve_if_small)
    assert (tiled(vae, latents, tiling) - expected).abs().max() <= 1e-5
    assert {16, 32} <= set(strips)


def test_the_damage_at_seams_is_real(vae: VideoVae) -> None:
    case = Case((2, 8, 8), DecodeSettings(DecodeMode.STRIP_MAJOR, 16, 1))
    latents = latents_of(case.shape)
    exact = streamed(vae, latents, planned(case, NARROW))
    damage = (tiled(vae, latents, ReferenceTiling(48, 48, 32, 32)) - exact).abs()
    assert damage.max() > 1e-3
    assert damage[:, :, :, 32:40].max() > 1e-3  # beside an edge
    assert damage[:, :, :8, :8].max() > 1e-3  # and far from it: attention saw other pixels


def test_what_was_handed_out_stays_as_it_was(vae: VideoVae) -> None:
    latents, tiling = latents_of((2, 11, 5)), ReferenceTiling(32, 24, 8, 16)
    kept = [block.rgb for block in reference_blocks(vae, latents, tiling)]
    copied = [block.rgb.clone() for block in reference_blocks(vae, latents, tiling)]
    assert all(map(torch.equal, kept, copied))


COSTS = [
    (*CASES[0], NARROW, torch.float32),
    (*CASES[3], DEEP, torch.bfloat16),
    (*CASES[4], NARROW, torch.bfloat16),
    (*CASES[5], DEEP, torch.float32),
    ((2, 6, 4), ReferenceTiling(24, 24, 8, 16), NARROW, torch.float32),
]


@pytest.mark.parametrize(("shape", "tiling", "config"), [case[:3] for case in COSTS])
def test_operations_are_those_that_are_counted(shape: Shape, tiling: ReferenceTiling, config: VideoVaeConfig) -> None:
    with FlopCounterMode(display=False) as counter:
        tiled(network(config), latents_of(shape), tiling)
    assert reference_cost(shape, config, torch.float32, tiling).flop == pytest.approx(
        counter.get_total_flops(), rel=1e-3
    )


def simulate(config: VideoVaeConfig, shape: Shape, dtype: torch.dtype, tiling: ReferenceTiling) -> LiveStorages:
    """Decode tensors without values, and count what would be alive."""
    storages = LiveStorages()
    with FakeTensorMode():
        vae = decoder_without_values(config, dtype)
        latents = torch.empty(1, config.z_dim, *shape, device=HOST)
        with storages:
            for module in (vae.decoder, vae.conv2):
                for parameter in module.parameters():
                    storages.follow(parameter)
            for block in reference_blocks(vae, latents, tiling):
                held = block.rgb  # a consumer holds what it was given while the next row is decoded
            del held
    return storages


def hold(predicted: CutCost, storages: LiveStorages) -> tuple[float, float]:
    """Predicted over simulated bytes, on the card and in host memory."""
    return predicted.peak_bytes / storages.peak[CARD], predicted.host_bytes / storages.peak[HOST]


@pytest.mark.parametrize(("shape", "tiling", "config", "dtype"), COSTS)
def test_the_prediction_holds(
    shape: Shape, tiling: ReferenceTiling, config: VideoVaeConfig, dtype: torch.dtype
) -> None:
    card, host = hold(reference_cost(shape, config, dtype, tiling), simulate(config, shape, dtype, tiling))
    assert 1 <= card <= 1.05
    assert 1 <= host <= 1.05


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_prediction_holds_for_real_sizes(dtype: torch.dtype) -> None:
    shape, tiling = (2, 60, 52), ReferenceTiling()
    card, host = hold(reference_cost(shape, FULL, dtype, tiling), simulate(FULL, shape, dtype, tiling))
    assert 1 <= card <= 1.05
    assert 1 <= host <= 1.05


def test_the_nodes_tiling_takes_three_times_the_operations() -> None:
    """1280x720, 61 frames, bf16; strides the other way round are what the design's prototype measured."""
    shape, node = (16, 90, 160), ReferenceTiling()
    cost = reference_cost(shape, FULL, torch.bfloat16, node)
    turned = reference_cost(shape, FULL, torch.bfloat16, replace(node, stride_height=128, stride_width=144))
    untiled = planned(Case(shape, DecodeSettings(DecodeMode.WHOLE)), FULL, torch.bfloat16).tflop * 1e12
    assert turned.flop == pytest.approx(1459.2e12, rel=1e-3)
    assert cost.flop == pytest.approx(1551.6e12, rel=1e-3)
    assert cost.flop / untiled == pytest.approx(3.22, abs=0.01)
    assert cost.peak_bytes == turned.peak_bytes
    assert cost.peak_bytes == pytest.approx(0.99 * 2**30, rel=0.1)


def test_a_band_bounds_what_waits_in_host_memory() -> None:
    """Sums and finished rows do not grow with the height; the latents do."""
    costs = [reference_cost((16, height, 160), FULL, torch.bfloat16, ReferenceTiling()) for height in (90, 900)]
    latents = 4 * 16 * 16 * 160 * (900 - 90)
    assert costs[1].host_bytes - costs[0].host_bytes == latents
    assert costs[1].peak_bytes == costs[0].peak_bytes


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length, tile size and stride along an axis, in units of a latent."""
    size = draw(st.integers(2, 12))
    return draw(st.integers(1, 60)), size, draw(st.integers(1, size - 1))


@given(axes())
def test_tiles_lie_by_the_rule_and_outlast_their_ramps(axis: tuple[int, int, int]) -> None:
    length, size, stride = axis
    spans = tile_spans(length, size, stride)
    assert [span.start for span in spans] == list(starts_of(length, size, stride))
    assert spans[-1].stop == length
    assert all(span.stop == span.start + size for span in spans[:-1])
    assert len(spans) == 1 or all(span.size > span.border for span in spans)  # so that each ramp reaches 1
    for span in spans:
        expected = plain_weights(span.start, size, stride, length)
        assert torch.equal(torch.tensor(span.weights()), expected)
        assert expected.min() > 0


def test_the_default_tiling_is_the_nodes() -> None:
    rows, columns = tile_rows(ReferenceTiling(), 720), tile_columns(ReferenceTiling(), 1280)
    assert [(row.start, row.stop) for row in rows] == [(0, 272), (144, 416), (288, 560), (432, 704), (576, 720)]
    assert [column.start for column in columns] == [0, 128, 256, 384, 512, 640, 768, 896, 1024]
    assert columns[-1].stop == 1280
    # Two borders of 144 columns do not fit into 272: the falling ramp cuts the rising one off before it reaches 1.
    middle = columns[1].weights()
    assert middle[127:129] == (128 / 144, 1.0)
    assert middle[129] == 143 / 144
    assert rows[-1].weights()[126:129] == (127 / 128, 1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tile_height", 40 + 4),
        ("tile_width", 8),  # no stride is left below it
        ("tile_width", 0),
        ("stride_height", 0),
        ("stride_height", -8),
        ("stride_width", 48),  # tiles that only touch
        ("stride_width", 56),
        ("stride_width", 20),
    ],
)
def test_a_tiling_that_cannot_be_is_refused(name: str, value: int, vae: VideoVae) -> None:
    fine = ReferenceTiling(48, 48, 32, 32)
    check_tiling(fine, 8)
    wrong = replace(fine, **{name: value})
    for use in (
        lambda: check_tiling(wrong, 8),
        lambda: reference_blocks(vae, latents_of((1, 8, 8)), wrong),  # before the first block is asked for
        lambda: reference_cost((1, 8, 8), NARROW, torch.float32, wrong),
    ):
        with pytest.raises(EngineError) as refused:
            use()
        assert refused.value.code is ErrorCode.INVALID_SETTING
        assert (refused.value.details["name"], refused.value.details["value"]) == (name, value)
        assert refused.value.details["allowed"]


def test_the_latents_of_other_vaes_are_larger() -> None:
    check_tiling(ReferenceTiling(), 16)
    with pytest.raises(EngineError) as refused:
        check_tiling(replace(ReferenceTiling(), stride_width=136), 16)
    assert refused.value.details == {"name": "stride_width", "value": 136, "allowed": "multiples of 16, 16 - 256"}


def test_it_can_stop_before_any_convolution(vae: VideoVae) -> None:
    left = itertools.count(100, -1)  # a tile has some forty

    def stop() -> None:
        if not next(left):
            raise Cancelled

    with pytest.raises(Cancelled):
        next(reference_blocks(vae, latents_of((2, 6, 6)), ReferenceTiling(32, 32, 16, 16), stop))
    assert next(left) == -1


def test_the_callers_grad_mode_stays_its_own(vae: VideoVae) -> None:
    for block in reference_blocks(vae, latents_of((2, 6, 4)), ReferenceTiling(24, 24, 16, 16)):
        assert torch.is_grad_enabled()
        assert not block.rgb.requires_grad


def test_a_tiling_can_be_a_setting_where_no_torch_is() -> None:
    code = "import sys, engine.decode.tiling; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert ReferenceTiling(**asdict(ReferenceTiling())) == ReferenceTiling()
