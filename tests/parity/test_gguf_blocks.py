"""Values of GGUF's blocks against those of the `gguf` package, bit for bit, and the memory they take on the way."""

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.memory.simulate import LiveStorages
from engine.weights.gguf_blocks import FORMULAS, PIECE_VALUES, WORK_BYTES, dequantize_blocks
from engine.weights.gguf_file import PLAIN_TYPES
from engine.weights.gguf_types import QUANTIZED_TYPES, TYPES, TYPES_BY_NAME

# Where the half floats of a block begin; the other bytes may be anything.
HALF_FLOATS = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "IQ3_S": (0,),
}  # fmt: skip
QUANTIZABLE = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
ROWS, COLUMNS = 37, 512


def random_blocks(kind: str, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Random bytes, where a finite half float of any size, sign or none stands for each scale."""
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    rng = np.random.default_rng(len(kind) + rows)
    blocks = rng.integers(0, 256, (rows * columns // values, size), dtype=np.uint8)
    for start in HALF_FLOATS[kind]:
        bits = rng.integers(0, 1 << 16, len(blocks), dtype=np.uint16)
        bits[bits & 0x7C00 == 0x7C00] &= 0x83FF  # infinities and such become tiny
        blocks[:, start : start + 2] = bits.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


def expected(blocks: np.ndarray, kind: str) -> Tensor:
    return torch.from_numpy(dequantize(blocks, GGMLQuantizationType[kind]).astype(np.float32))


def bits(values: Tensor) -> Tensor:
    """So that 0 and -0 differ."""
    return values.contiguous().view(torch.int32)


def test_the_types_are_those_of_the_package() -> None:
    known = {int(kind): (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType}
    assert {number: (t.name, t.values, t.byte_count) for number, t in TYPES.items()} == known


def test_every_type_that_is_let_through_has_a_formula() -> None:
    assert HALF_FLOATS.keys() == QUANTIZED_TYPES
    assert FORMULAS.keys() == QUANTIZED_TYPES | {"F32", "F16", "BF16"}
    assert not QUANTIZED_TYPES & PLAIN_TYPES.keys()


@pytest.mark.parametrize("kind", sorted(QUANTIZED_TYPES))
def test_random_blocks(kind: str) -> None:
    blocks = random_blocks(kind)
    values = dequantize_blocks(torch.from_numpy(blocks), kind, (ROWS, COLUMNS), torch.float32)
    torch.testing.assert_close(bits(values), bits(expected(blocks, kind)), rtol=0, atol=0)


@pytest.mark.parametrize("kind", QUANTIZABLE)
def test_quantised_weights(kind: str) -> None:
    """The package's own quantisation comes back close to what was quantised: no two values have changed places."""
    weight = np.random.default_rng(0).standard_normal((ROWS, COLUMNS), dtype=np.float32)
    blocks = quantize(weight, GGMLQuantizationType[kind])
    values = dequantize_blocks(torch.from_numpy(blocks), kind, (ROWS, COLUMNS), torch.float32)
    torch.testing.assert_close(bits(values), bits(expected(blocks, kind)), rtol=0, atol=0)
    step = {"Q4": 1 / 7, "Q5": 1 / 15, "Q8": 1 / 127}[kind[:2]] * np.abs(weight).max()
    torch.testing.assert_close(values, torch.from_numpy(weight), rtol=0, atol=float(step))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_plain_floats(kind: str) -> None:
    weight = np.random.default_rng(0).standard_normal((ROWS, COLUMNS), dtype=np.float32)
    blocks = quantize(weight, GGMLQuantizationType[kind]).view(np.uint8)
    values = dequantize_blocks(torch.from_numpy(blocks), kind, (ROWS, COLUMNS), torch.float32)
    torch.testing.assert_close(bits(values), bits(expected(blocks, kind)), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", sorted(QUANTIZED_TYPES))
def test_other_dtypes_are_rounded_once(kind: str, dtype: torch.dtype) -> None:
    blocks = torch.from_numpy(random_blocks(kind))
    full = dequantize_blocks(blocks, kind, (ROWS, COLUMNS), torch.float32)
    assert torch.equal(dequantize_blocks(blocks, kind, (ROWS, COLUMNS), dtype), full.to(dtype))


@pytest.mark.parametrize("kind", sorted(FORMULAS))
def test_rows_can_be_had_alone_and_from_odd_addresses(kind: str) -> None:
    """As an embedding reads them: some rows, in any order; and out of a buffer in which no float may begin."""
    whole = random_blocks(kind) if kind in QUANTIZED_TYPES else np.zeros((ROWS, COLUMNS * 4), np.uint8)
    columns = COLUMNS if kind in QUANTIZED_TYPES else whole.shape[1] // TYPES_BY_NAME[kind].byte_count
    blocks = torch.from_numpy(whole)
    rows = torch.tensor([5, 0, 36, 5])
    every = dequantize_blocks(blocks, kind, (ROWS, columns), torch.float32)
    assert torch.equal(dequantize_blocks(blocks[rows], kind, (4, columns), torch.float32), every[rows])
    shifted = torch.cat([torch.zeros(1, dtype=torch.uint8), blocks.flatten()])[1:]
    assert torch.equal(dequantize_blocks(shifted, kind, (ROWS, columns), torch.float32), every)
    strided = blocks.repeat(1, 2)[:, : blocks.shape[1]]
    assert torch.equal(dequantize_blocks(strided, kind, (ROWS, columns), torch.float32), every)


@pytest.mark.parametrize("kind", sorted(QUANTIZED_TYPES))
def test_pieces_join_and_take_no_more_than_they_say(kind: str) -> None:
    rows = PIECE_VALUES * 2 // COLUMNS + 3
    blocks = torch.from_numpy(random_blocks(kind, rows))
    storages = LiveStorages()
    with storages:
        values = dequantize_blocks(blocks, kind, (rows, COLUMNS), torch.bfloat16)
    assert storages.peak["cpu"] - values.nbytes - blocks.nbytes <= WORK_BYTES
    for part in (slice(0, 2), slice(rows // 2 - 2, rows // 2 + 2), slice(rows - 5, rows)):
        alone = expected(blocks[part].numpy(), kind).bfloat16()
        assert torch.equal(values[part], alone)


@pytest.mark.parametrize(
    ("blocks", "kind", "shape"),
    [
        (torch.zeros(4, 18, dtype=torch.uint8), "Q4_0", (4, 33)),
        (torch.zeros(4, 18, dtype=torch.uint8), "Q4_0", (3, 32)),
        (torch.zeros(4, 17, dtype=torch.uint8), "Q4_0", (4, 32)),
        (torch.zeros(4, 18, dtype=torch.int8), "Q4_0", (4, 32)),
        (torch.zeros(4, 66, dtype=torch.uint8), "TQ2_0", (4, 256)),
    ],
)
def test_what_does_not_fit_is_refused(blocks: Tensor, kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=kind):
        dequantize_blocks(blocks, kind, shape, torch.float32)


def test_blocks_of_reshaped_weights() -> None:
    """A weight whose rows are no whole blocks is stored in other rows; its values have the shape it had."""
    blocks = random_blocks("Q6_K", 3, 256)
    values = dequantize_blocks(torch.from_numpy(blocks), "Q6_K", (4, 48, 2, 2), torch.float32)
    assert torch.equal(values, expected(blocks, "Q6_K").reshape(4, 48, 2, 2))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kind", sorted(QUANTIZED_TYPES))
def test_a_simulated_card_runs_it(kind: str, device: str) -> None:
    """The planner's check runs networks on tensors without values."""
    stored = TYPES_BY_NAME[kind]
    with FakeTensorMode():
        blocks = torch.empty(8, 2 * stored.byte_count, dtype=torch.uint8, device=device)
        values = dequantize_blocks(blocks, kind, (8, 2 * stored.values), torch.bfloat16)
    assert values.shape == (8, 2 * stored.values)
    assert values.device.type == device
