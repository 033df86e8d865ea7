"""From the header of a checkpoint to what it is, and where each parameter of its network lies. Pure and torch-free."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from engine.weights.declared import ReadBytes, declared_layers
from engine.weights.expected import Shape, Shapes
from engine.weights.families import Family, Role, recognise
from engine.weights.header import Header, invalid
from engine.weights.names import Layout, Naming, official_names, pieces_of
from engine.weights.neighbours import refuse_marked
from engine.weights.other_files import are_latents, lora_family
from engine.weights.quantization import WeightTensors, form_name, gather, source_of
from engine.weights.source import Sources, WeightSource

GGUF_ENDING = ".gguf"
UNKNOWN = "none of the networks that are known"
# Tensors that published files hold beside a network and that it does not need: marks, tokenizers, the other half of
# CLIP, heads of training, and a second name of the same values.
NOT_NEEDED = re.compile(
    r"scaled_fp8|spiece_model|encoder\.embed_tokens\.weight|textual\..+|log_scale|logit_scale|text_model\..+"
    r"|text_projection\.weight|visual_projection\.weight|vision_model\.embeddings\.position_ids"
    r"|masked_spec_embed|quantizer\..+|project_(hid|q)\..+"
)


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of a network is stored in one form."""

    layers: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Description:
    """What a checkpoint is.

    quantization: the amounts by form, a format's name, a float type's or the type of GGUF's blocks; a tensor counts
    as a layer. missing: official names of parameters that no tensor holds. unexpected: stored names of tensors that
    are no parameter. Sources and shapes are empty for LoRA and latents, which are no network.
    """

    path: Path
    family: Family
    layout: Layout
    prefix: str
    quantization: Mapping[str, Amount]
    parameters: int
    bytes_on_disk: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    sources: Sources
    header: Header

    @property
    def role(self) -> Role:
        """What the file is for."""
        return self.family.role


def identify(header: Header, metadata: Mapping[str, str], path: Path, read: ReadBytes) -> Description:
    """What the checkpoint with these tensors is; `path` is its file or the first of its files.

    `read` gives the bytes of the few small tensors that declare a format. Raises MODEL_INVALID, with the reason, for
    a network that is unknown or not supported, for a tensor of a wrong shape, and for a form that is not read.
    """
    try:
        return _other_file(header, path) or _network(header, metadata, path, read)
    except KeyError as error:
        raise invalid(path, f"missing: {error.args[0]}") from error
    except (IndexError, ZeroDivisionError) as error:
        raise invalid(path, f"unexpected shapes: {error}") from error
    except ValueError as error:
        raise invalid(path, str(error)) from error


def _other_file(header: Header, path: Path) -> Description | None:
    """A LoRA or latents; None for what may be a network."""
    shapes = {name: info.shape for name, info in header.items()}
    if lora := lora_family(shapes):
        family = Family(lora, Role.LORA, {})
    elif are_latents(shapes):
        family = Family("latents", Role.LATENTS, {})
    else:
        return None
    forms: dict[str, Amount] = {}
    for info in header.values():
        _count(forms, info.dtype, info.shape)
    parameters = sum(amount.parameters for amount in forms.values())
    disk = sum(info.byte_count for info in header.values())
    return Description(path, family, Layout.OFFICIAL, "", forms, parameters, disk, (), (), {}, header)


def _network(header: Header, metadata: Mapping[str, str], path: Path, read: ReadBytes) -> Description:
    naming = official_names(header)
    named = _stored_by_official(naming)
    refuse_marked(named)
    weights = gather(named, header, declared_layers(naming, header, metadata, read))
    family = recognise(_value_shapes(weights), path)
    if family is None:
        raise ValueError(UNKNOWN)
    sources = _sources(family, weights, header)
    forms: dict[str, Amount] = {}
    for piece in _stored_pieces(sources):
        _count(forms, form_name(piece, header), piece.shape)
    return Description(
        path=path,
        family=family,
        layout=Layout.GGUF if path.suffix.lower() == GGUF_ENDING else naming.layout,
        prefix=naming.prefix,
        quantization=forms,
        parameters=sum(prod(source.shape) for source in sources.values()),
        bytes_on_disk=sum(info.byte_count for info in header.values()),
        missing=tuple(name for name in family.expected if name not in sources and name not in family.unused),
        unexpected=_unexpected(sources, weights),
        sources=sources,
        header=header,
    )


def _stored_by_official(naming: Naming) -> dict[str, str]:
    named: dict[str, str] = {}
    for stored, official in naming.official.items():
        if official in named:
            raise ValueError(f"two tensors for one parameter: {named[official]}, {stored}")
        named[official] = stored
    return named


def _value_shapes(weights: Mapping[str, WeightTensors]) -> Shapes:
    return {name: weight.value_shape for name, weight in weights.items()}


def _sources(family: Family, weights: Mapping[str, WeightTensors], header: Header) -> Sources:
    found = ((name, _source(name, shape, weights, header)) for name, shape in family.expected.items())
    return {name: source for name, source in found if source is not None}


def _source(name: str, shape: Shape, weights: Mapping[str, WeightTensors], header: Header) -> WeightSource | None:
    """Where a parameter lies, in one tensor or in pieces; None when it is not there."""
    if name in weights:
        return source_of(name, weights[name], shape, header)
    pieces = pieces_of(name)
    if not pieces or any(piece not in weights for piece in pieces):
        return None
    rows, *others = shape
    part = (rows // len(pieces), *others)
    return WeightSource("", shape, pieces=tuple(source_of(piece, weights[piece], part, header) for piece in pieces))


def _unexpected(sources: Sources, weights: Mapping[str, WeightTensors]) -> tuple[str, ...]:
    used = {piece.name for piece in _stored_pieces(sources)}
    left = ((official, weight.name) for official, weight in weights.items() if weight.name not in used)
    return tuple(stored for official, stored in left if not NOT_NEEDED.fullmatch(official))


def _stored_pieces(sources: Sources) -> Iterator[WeightSource]:
    for source in sources.values():
        yield from source.pieces or (source,)


def _count(forms: dict[str, Amount], form: str, shape: Shape) -> None:
    before = forms.get(form, Amount(0, 0))
    forms[form] = Amount(before.layers + 1, before.parameters + prod(shape))
