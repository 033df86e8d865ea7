"""A checkpoint made into a smaller file, tensor by tensor, as ComfyUI reads it. Lives on the engine's thread.

The file says twice which layers are quantised, since of the programs that read it some look only here, some only there:
in the header under ``_quantization_metadata``, and beside each layer in a tensor ``.comfy_quant`` of JSON text.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from engine.models.float32_islands import keeps_float32
from engine.output.durable import disk_errors, put_in_place
from engine.weights.block_scales import swizzled_shape
from engine.weights.checkpoint import Checkpoint
from engine.weights.dequantize import check_tensors, read_tensors, row_blocks, rows_of, values, values_of
from engine.weights.header import LENGTH_BYTES, TensorInfo, invalid
from engine.weights.nvfp4 import BLOCK, padded_shape
from engine.weights.place import OnTensor, ignore
from engine.weights.quantize import quantize_weight
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import Part, QuantFormat, Sources, WeightSource

WEIGHT = ".weight"
MARK = "comfy_quant"
TOKENIZER = "spiece_model"  # of text encoders in one file; no parameter, and not to be lost
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
DTYPES = {name: dtype for dtype, name in NAMES.items()}
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}  # of the others, 1
HEADER_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Step:
    """Tensors that are computed together: what they will be, and in the same order the pieces of each one's values."""

    infos: dict[str, TensorInfo]
    compute: Callable[[], Iterator[Iterable[Tensor]]]


def quantize_file(
    checkpoint: Checkpoint,
    sources: Sources,
    to: QuantFormat,
    output: Path,
    on_tensor: OnTensor = ignore,
    device: torch.device | None = None,
) -> None:
    """Write the parameters `sources` of `checkpoint` to `output`, under official names, with large layers in form `to`.

    to: FP8_E4M3, a scale for each layer, or NVFP4. The other parameters keep their dtype; of those in float32, only
    the ones that the transformer uses in float32 do, the rest become bfloat16, as do quantised ones. `on_tensor` is
    called before each parameter; what it raises leaves the call. Rounding happens on `device`, by default a CPU.
    Takes about four times the largest layer in host memory, besides what the system maps. `output` is whole or not
    there. Raises MODEL_INVALID and OUTPUT_NOT_WRITABLE.
    """
    layers = [name.removesuffix(WEIGHT) for name, source in sources.items() if _is_quantized(name, source, to)]
    if not layers:
        raise invalid(checkpoint.files[0], "it has no layers that could be made smaller")
    work = Work(checkpoint, to, device or torch.device("cpu"))
    steps = [work.step(name, source) for name, source in sources.items()]
    steps += [work.kept(TOKENIZER)] if TOKENIZER in checkpoint.header else []
    part = output.with_name(output.name + ".part")
    try:
        with disk_errors(output), part.open("wb") as file:
            _write(file, steps, _metadata(layers, to), on_tensor)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    put_in_place(part, output)


def _is_quantized(name: str, source: WeightSource, to: QuantFormat) -> bool:
    return name.endswith(WEIGHT) and is_quantized_layer(name.removesuffix(WEIGHT), to) and len(source.shape) == 2


@dataclass(frozen=True, slots=True)
class Work:
    """What becomes of the parameters of `checkpoint`."""

    checkpoint: Checkpoint
    to: QuantFormat
    device: torch.device

    def step(self, name: str, source: WeightSource) -> Step:
        """The tensors that the parameter `name` becomes."""
        if _is_quantized(name, source, self.to):
            infos = _quantized_infos(name.removesuffix(WEIGHT), source.shape, self.to)
            return Step(infos, lambda: self._quantized(source))
        dtype = self._kept_dtype(name, source)
        info = TensorInfo(NAMES[dtype], source.shape, prod(source.shape) * dtype.itemsize)
        return Step({name: info}, lambda: iter([self._pieces(source, dtype)]))

    def kept(self, name: str) -> Step:
        """The stored tensor `name` as it is."""
        return Step({name: self.checkpoint.header[name]}, lambda: iter([[self.checkpoint.read(name)]]))

    def _quantized(self, source: WeightSource) -> Iterator[Iterable[Tensor]]:
        checkpoint = self.checkpoint
        with self._named(source):
            values = values_of(source, checkpoint.read, checkpoint.header, self._stored_dtype(source))
            stored = quantize_weight(values.to(self.device), self.to, scale_rows=False)
        for tensor in (stored.data, *stored.parts.values(), _mark(self.to)):
            yield [tensor]

    def _pieces(self, source: WeightSource, dtype: torch.dtype) -> Iterator[Tensor]:
        """The values, of matrices some rows at a time: that of the words is larger than all layers of a block."""
        checkpoint = self.checkpoint
        with self._named(source):
            if len(source.shape) != 2 or source.pieces:
                yield values_of(source, checkpoint.read, checkpoint.header, dtype)
                return
            stored = read_tensors(source, checkpoint.read, checkpoint.header)
            check_tensors(stored)
            for start, stop in row_blocks(*source.shape):
                yield values(rows_of(stored, start, stop), dtype)

    @contextlib.contextmanager
    def _named(self, source: WeightSource) -> Iterator[None]:
        """Turn a ValueError about `source` into MODEL_INVALID."""
        try:
            yield
        except ValueError as error:
            reason = f"{_name(source)}: {str(error).removeprefix(f'{source.name}: ')}"
            raise invalid(self.checkpoint.files[0], reason) from error

    def _kept_dtype(self, name: str, source: WeightSource) -> torch.dtype:
        stored = self._stored_dtype(source)
        return torch.bfloat16 if stored is torch.float32 and not keeps_float32(name) else stored

    def _stored_dtype(self, source: WeightSource) -> torch.dtype:
        """The dtype that holds the values of `source`: its own, or float32."""
        if source.quantization or source.pieces:
            return torch.float32
        return DTYPES.get(self.checkpoint.header[source.name].dtype, torch.float32)


def _name(source: WeightSource) -> str:
    return ", ".join(piece.name for piece in source.pieces) or source.name


def _quantized_infos(layer: str, shape: tuple[int, ...], to: QuantFormat) -> dict[str, TensorInfo]:
    """The tensors of a quantised layer, in the order in which `quantize_weight` gives them, and its mark."""
    rows, columns = shape
    described: list[tuple[str, str, tuple[int, ...]]] = [("weight", "F8_E4M3", shape), (Part.WEIGHT_SCALE, "F32", ())]
    if to is QuantFormat.NVFP4:
        rows, columns = padded_shape(rows, columns)
        described = [
            ("weight", "U8", (rows, columns // 2)),
            (Part.WEIGHT_SCALE, "F8_E4M3", swizzled_shape(rows, columns // BLOCK)),
            (Part.WEIGHT_SCALE_2, "F32", ()),
        ]
    described.append((MARK, "U8", tuple(_mark(to).shape)))
    return {
        f"{layer}.{name}": TensorInfo(dtype, size, prod(size) * ITEM_BYTES.get(dtype, 1))
        for name, dtype, size in described
    }


def _mark(to: QuantFormat) -> Tensor:
    return torch.tensor(list(json.dumps({"format": to}).encode()), dtype=torch.uint8)


def _metadata(layers: list[str], to: QuantFormat) -> dict[str, str]:
    quantization = {"format_version": "1.0", "layers": {layer: {"format": to} for layer in layers}}
    return {"format": "pt", "_quantization_metadata": json.dumps(quantization)}


def _write(file: BinaryIO, steps: list[Step], metadata: dict[str, str], on_tensor: OnTensor) -> None:
    infos = {name: info for step in steps for name, info in step.infos.items()}
    starts = _starts(infos)
    header = _header(infos, starts, metadata)
    file.write(len(header).to_bytes(LENGTH_BYTES, "little") + header)
    for step in steps:
        on_tensor()
        for name, pieces in zip(step.infos, step.compute(), strict=True):
            file.seek(LENGTH_BYTES + len(header) + starts[name])
            for piece in pieces:
                _write_values(file, piece)


def _starts(infos: dict[str, TensorInfo]) -> dict[str, int]:
    """Where each tensor begins; wide dtypes first, so that all of them begin where a mapped value may."""
    ordered = sorted(infos.items(), key=lambda entry: -ITEM_BYTES.get(entry[1].dtype, 1))
    starts, position = {}, 0
    for name, info in ordered:
        starts[name] = position
        position += info.byte_count
    return starts


def _header(infos: dict[str, TensorInfo], starts: dict[str, int], metadata: dict[str, str]) -> bytes:
    entries = {
        name: {"dtype": info.dtype, "shape": info.shape, "data_offsets": [start, start + info.byte_count]}
        for name, start in starts.items()
        for info in (infos[name],)
    }
    text = json.dumps({"__metadata__": metadata, **entries}).encode()
    return text.ljust(-(-len(text) // HEADER_MULTIPLE) * HEADER_MULTIPLE)


def _write_values(file: BinaryIO, tensor: Tensor) -> None:
    """Write the bytes of `tensor`, from a card some at a time."""
    flat = tensor.reshape(-1).view(torch.uint8)
    for start, stop in row_blocks(len(flat), 1):
        file.write(flat[start:stop].cpu().numpy().data)
