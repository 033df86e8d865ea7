"""Networks of blocks with their weights, loaded block by block: some for the device, the others for a `BlockSwap`.

Weights that need no work stay in the files that they are mapped from, or go from there to page-locked memory. Those
that are made smaller or take in a LoRA are worked on on the device and brought back, so that they are the same values
wherever they are kept. Nothing is twice in host memory but one block. Engine's thread.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from engine.decode.room import Room, room_on_host
from engine.memory.block_swap import BlockSwap, swapped_blocks
from engine.model_choice import LoraUse, WeightForm
from engine.models.float32_islands import keeps_float32
from engine.models.image_encoder import ImageEncoder
from engine.models.text_encoder import TextEncoder
from engine.models.transformer import WanTransformer
from engine.weights.card import (
    BLOCKS,
    HOST_ONLY,
    QUANTIZED_FORMS,
    NetworkBytes,
    block_of,
    is_held_quantized,
    network_bytes,
)
from engine.weights.checkpoint import Checkpoint
from engine.weights.configs import image_encoder_config, shapes_of, text_encoder_config
from engine.weights.containers import open_checkpoint
from engine.weights.detect import ModelFiles
from engine.weights.families import Role
from engine.weights.identify import Description
from engine.weights.lora.apply import ActiveLora, apply_loras, open_loras
from engine.weights.lora.file import LoraFile
from engine.weights.lora.held_bytes import bytes_beside, largest_computed_change, largest_whole_change
from engine.weights.lora.use import uses_of
from engine.weights.place import Giving, OnRead, Target, ignore
from engine.weights.provenance import Expert
from engine.weights.quantize import SEARCHED_VALUES
from engine.weights.shards import parts_of
from engine.weights.transformer_config import transformer_config
from engine.weights.whole import describe, open_network

CPU = torch.device("cpu")
ISLAND_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}  # wider, the values would say no more
FLOAT32_BYTES, MERGED_AT_ONCE = 4, 4  # a weight, the change of it, their sum, and what DoRA makes of it
SEARCHED_BYTES = 40  # for each of the values that quantising searches at a time
WEIGHT = ".weight"
N = TypeVar("N", bound=nn.Module, covariant=True)


@dataclass(frozen=True, slots=True)
class Swapped(Generic[N]):
    """A network whose shell is on the device, but for `HOST_ONLY`, and the swap that its blocks are walked by.

    `close` the swap.
    """

    network: N
    swap: BlockSwap


@dataclass(frozen=True, slots=True)
class Residence:
    """How many blocks stay on the device, None for all, and where the others wait."""

    blocks: int | None = None
    room: Room = room_on_host


@dataclass(frozen=True, slots=True)
class TransformerLoading:
    """What becomes of a transformer's weights, and which of two it is; None is the only one of its model."""

    form: WeightForm = WeightForm.STORED
    loras: tuple[LoraUse, ...] = ()
    rounds_input: bool = False
    expert: Expert | None = None


ALL_RESIDENT, AS_STORED = Residence(), TransformerLoading()


def load_swapped_transformer(
    files: ModelFiles,
    device: torch.device,
    dtype: torch.dtype,
    on_read: OnRead = ignore,
    loading: TransformerLoading = AS_STORED,
    residence: Residence = ALL_RESIDENT,
) -> Swapped[WanTransformer]:
    """A transformer of the model, its products in `dtype`. Raises MODEL_INVALID.

    What it computes in float32 is kept as it is stored, and widened when it is used. Layers that are stored quantised
    stay so, all large ones are brought into the form asked for, and LoRAs are put on top. Here and below `on_read` is
    told before each tensor, and at the end, how many bytes were read; what it raises leaves the call.
    """
    with torch.device("meta"):
        model = WanTransformer(transformer_config(files))
    opened = open_network(files_of(files, loading.expert), Role.TRANSFORMER)
    uses = uses_of(loading.loras, loading.expert)
    changes = open_loras(uses, shapes_of(opened.description), _open_lora)
    header, sources = opened.checkpoint.header, opened.description.sources

    def dtype_of(name: str) -> torch.dtype:
        return ISLAND_DTYPES.get(header[sources[name].name].dtype, torch.float32) if keeps_float32(name) else dtype

    target = Target(device, dtype_of, on_read, QUANTIZED_FORMS.get(loading.form), loading.rounds_input)
    filling = _Filling(model, Giving(model, opened, target), Role.TRANSFORMER, device, residence, tuple(changes), dtype)
    return Swapped(model, filling.fill(list(model.blocks), partial(on_read, 0, 0)))


def load_swapped_text_encoder(
    files: ModelFiles,
    device: torch.device,
    dtype: torch.dtype,
    on_read: OnRead = ignore,
    residence: Residence = ALL_RESIDENT,
) -> Swapped[TextEncoder]:
    """The text encoder in `dtype`, its table of tokens in host memory. Raises MODEL_INVALID."""
    with torch.device("meta"):
        model = TextEncoder(text_encoder_config(files))
    opened = open_network(files.text_encoder, Role.TEXT_ENCODER)
    giving = Giving(model, opened, Target(device, lambda _: dtype, on_read))
    return Swapped(model, _Filling(model, giving, Role.TEXT_ENCODER, device, residence).fill(list(model.blocks)))


def load_swapped_image_encoder(
    files: tuple[Path, ...],
    device: torch.device,
    dtype: torch.dtype,
    on_read: OnRead = ignore,
    residence: Residence = ALL_RESIDENT,
) -> Swapped[ImageEncoder]:
    """The half of CLIP that sees, in `dtype`. Raises MODEL_INVALID."""
    with torch.device("meta"):
        model = ImageEncoder(image_encoder_config(files))
    giving = Giving(model, open_network(files, Role.IMAGE_ENCODER), Target(device, lambda _: dtype, on_read))
    blocks = list(model.visual.transformer)
    return Swapped(model, _Filling(model, giving, Role.IMAGE_ENCODER, device, residence).fill(blocks))


def files_of(files: ModelFiles, expert: Expert | None) -> tuple[Path, ...]:
    """The files of one transformer; the first of two for what names none."""
    if expert is Expert.LOW_NOISE and files.low_noise is not None:
        return files.low_noise
    return files.transformer


def transformer_network_bytes(
    files: ModelFiles,
    dtype: torch.dtype,
    form: WeightForm,
    loras: Sequence[LoraUse],
    expert: Expert | None = None,
) -> NetworkBytes:
    """What `load_swapped_transformer` will hold, by block. Raises MODEL_INVALID."""
    model = describe(files_of(files, expert), Role.TRANSFORMER)
    return with_loras(model, dtype, form, matched(model, uses_of(loras, expert)))


def matched(model: Description, uses: Sequence[LoraUse]) -> list[LoraFile]:
    """What each LoRA of `uses` changes of `model`; those of strength 0 are left out. Raises MODEL_INVALID."""
    return [active.lora for active in open_loras(uses, shapes_of(model), _open_lora)]


def with_loras(
    model: Description, dtype: torch.dtype, form: WeightForm, loras: Sequence[LoraFile] = ()
) -> NetworkBytes:
    """What `model` takes in `form`, its plain values in `dtype`, and with it the LoRAs; `model` may have no file."""
    to = QUANTIZED_FORMS.get(form)
    quantized = [name.removesuffix(WEIGHT) for name in model.sources if is_held_quantized(model, name, to)]
    needed = network_bytes(model, form, dtype.itemsize, bytes_beside(loras, quantized, dtype.itemsize))
    whole = 2 * largest_whole_change(loras, quantized, dtype.itemsize)
    made = 0 if to is None else max((prod(model.sources[f"{layer}{WEIGHT}"].shape) for layer in quantized), default=0)
    quantizing = dtype.itemsize * made + SEARCHED_BYTES * min(made, SEARCHED_VALUES["cuda"])
    merging = MERGED_AT_ONCE * FLOAT32_BYTES * largest_computed_change(loras, quantized)
    return replace(needed, work=needed.work + whole, loading=max(quantizing, merging))


@dataclass(frozen=True, slots=True)
class _Filling:
    """Gives a network its weights: the shell first, then its blocks, each where it belongs."""

    model: nn.Module
    giving: Giving
    role: Role
    device: torch.device
    residence: Residence
    changes: tuple[ActiveLora, ...] = ()
    dtype: torch.dtype = torch.float32

    def fill(self, blocks: Sequence[nn.Module], on_tensor: Callable[[], None] = ignore) -> BlockSwap:
        """The swap of the `blocks` of the network, all of whose weights are there."""
        names = self._names_by_block(len(blocks))
        on_host = [name for name in names[-1] if name.startswith(HOST_ONLY)]
        self._give(on_host, CPU, on_tensor)
        self._give([name for name in names[-1] if name not in on_host], self.device, on_tensor)
        count = len(blocks) if self.residence.blocks is None else self.residence.blocks
        swapped = set(swapped_blocks(len(blocks), count))

        def load(index: int) -> None:
            stays = index in swapped and not self._is_worked_on(names[index])
            self._give(names[index], CPU if stays else self.device, on_tensor)

        swap = BlockSwap(blocks, self.device, count, self.residence.room, load=load)
        self.giving.finish()
        return swap

    def _names_by_block(self, count: int) -> Mapping[int, list[str]]:
        """Names of the parameters by the number of their block, those of none at -1."""
        names: dict[int, list[str]] = {index: [] for index in range(-1, count)}
        for name in self.giving.names:
            names[block_of(name, BLOCKS[self.role])].append(name)
        return names

    def _is_worked_on(self, names: Sequence[str]) -> bool:
        """Whether weights are computed, and not only converted."""
        is_changed = any(name in active.lora.sources for active in self.changes for name in names)
        return is_changed or self.giving.quantizes

    def _give(self, names: Sequence[str], device: torch.device, on_tensor: Callable[[], None]) -> None:
        self.giving.give(names, device)
        own = set(names)
        changes = [_of_parameters(active, own) for active in self.changes]
        apply_loras(self.model, changes, self.dtype, on_tensor)


def _of_parameters(active: ActiveLora, names: set[str]) -> ActiveLora:
    """What the LoRA changes of the parameters `names`."""
    sources = {name: source for name, source in active.lora.sources.items() if name in names}
    return replace(active, lora=replace(active.lora, sources=sources))


def _open_lora(path: Path) -> Checkpoint:
    return open_checkpoint(parts_of(path))
