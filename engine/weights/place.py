"""Stored values into the parameters of a network, one at a time, in the form they are wanted in. Engine's thread."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from engine.models.quantized_linear import QuantizedLinear
from engine.weights.dequantize import StoredTensors, read_tensors, values_of
from engine.weights.finite import check_finite
from engine.weights.header import invalid
from engine.weights.quantize import quantize_weight
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import QuantFormat, WeightSource
from engine.weights.whole import OpenedNetwork

OnTensor = Callable[[], None]
OnRead = Callable[[int, int], None]  # bytes that were read so far, of how many
WEIGHT = ".weight"


def ignore(*_: int) -> None:
    """For callers that do not want to stop in the middle, nor to know how far it is."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the values of a checkpoint go, in which dtype each, and what is called before each and at the end.

    quantize: the form that large layers are brought into, None to leave them as they are stored. rounds_input: of
    quantised layers, see `QuantizedLinear`.
    """

    device: torch.device
    dtype_of: Callable[[str], torch.dtype]
    on_read: OnRead
    quantize: QuantFormat | None = None
    rounds_input: bool = False


def give_weights(model: nn.Module, opened: OpenedNetwork, target: Target) -> None:
    """Every parameter of `model`, which has no memory yet, its value; tensors that it has no use for are not read.

    Linear layers whose weights are stored quantised, or are to be, become `QuantizedLinear`. On a CPU, values that
    need no conversion stay in their file. Raises MODEL_INVALID, and what `target.on_read` raises.
    """
    giving = Giving(model, opened, target)
    giving.give(giving.names, target.device)
    giving.finish()


class Giving:
    """`give_weights` in parts, each to a device of its own; `finish` once all of them have been given.

    names: of all parameters of the model, before any layer became another.
    """

    def __init__(self, model: nn.Module, opened: OpenedNetwork, target: Target) -> None:
        self.names = tuple(model.state_dict())
        self._model = model.eval().requires_grad_(False)
        self._sources = {name: opened.description.sources[name] for name in self.names}
        total = sum(map(opened.byte_count, self._sources.values()))
        self._reader = _Reader(opened, target, _Count(target.on_read, total), target.device)
        self._linear = {f"{path}{WEIGHT}": path for path, layer in model.named_modules() if type(layer) is nn.Linear}

    @property
    def quantizes(self) -> bool:
        """Whether large layers are made smaller."""
        return self._reader.target.quantize is not None

    def give(self, names: Iterable[str], device: torch.device) -> None:
        """The parameters `names` their values, on `device`. Raises as `give_weights` does."""
        reader = replace(self._reader, device=device)
        sources = {name: self._sources[name] for name in names}
        quantized = [name for name in sources if name in self._linear and reader.is_held_quantized(name, sources[name])]
        state = {name: reader.values(name, source) for name, source in sources.items() if name not in quantized}
        self._model.load_state_dict(state, strict=False, assign=True)
        for name in quantized:
            path = self._linear[name]
            stored, bias = reader.quantized(name, sources[name]), state.get(f"{path}.bias")
            layer = QuantizedLinear(stored, bias, rounds_input=reader.target.rounds_input)
            self._model.set_submodule(path, layer.eval().requires_grad_(False), strict=True)

    def finish(self) -> None:
        """Say that everything was read."""
        self._reader.count.add(0)


@dataclass(slots=True)
class _Count:
    """Tells how many bytes were read."""

    on_read: OnRead
    total: int
    done: int = 0

    def add(self, count: int) -> None:
        """So many are next."""
        self.on_read(self.done, self.total)
        self.done += count


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads parameters of a checkpoint in the form in which they go to `target`."""

    opened: OpenedNetwork
    target: Target
    count: _Count
    device: torch.device

    def is_held_quantized(self, name: str, source: WeightSource) -> bool:
        """Whether the weight of a linear layer is held in a quantised form."""
        return self._is_made_smaller(name) or (source.quantization is not None and not source.pieces)

    def _is_made_smaller(self, name: str) -> bool:
        to = self.target.quantize
        return to is not None and is_quantized_layer(name.removesuffix(WEIGHT), to)

    def values(self, name: str, source: WeightSource) -> Tensor:
        """The values in the dtype of the target, on the device."""
        self.count.add(self.opened.byte_count(source))
        return self._values(name, source).to(self.device)

    def quantized(self, name: str, source: WeightSource) -> StoredTensors:
        """The stored tensors of a weight, or those that it is made into, on the device."""
        self.count.add(self.opened.byte_count(source))
        to, device = self.target.quantize, self.device
        if to is None or source.quantization is to or not self._is_made_smaller(name):
            with self._faults(source):
                stored = read_tensors(source, self._read, self.opened.checkpoint.header)
            parts = {part: tensor.to(device) for part, tensor in stored.parts.items()}
            return replace(stored, data=stored.data.to(device), parts=parts)
        values = self._values(name, source).to(device)
        with self._faults(source):
            return quantize_weight(values, to)

    def _values(self, name: str, source: WeightSource) -> Tensor:
        with self._faults(source):
            return values_of(source, self._read, self.opened.checkpoint.header, self.target.dtype_of(name))

    def _read(self, stored_name: str) -> Tensor:
        tensor = self.opened.checkpoint.read(stored_name)
        check_finite(stored_name, tensor, self.opened.checkpoint.file_of(stored_name))
        return tensor

    @contextlib.contextmanager
    def _faults(self, source: WeightSource) -> Iterator[None]:
        """Stored tensors that do not fit together become MODEL_INVALID."""
        try:
            yield
        except ValueError as error:
            name = (source.pieces or (source,))[0].name
            raise invalid(self.opened.checkpoint.file_of(name), str(error)) from error
