"""Which file of a model folder is which network, found from tensor names; torch-free, reads headers only."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from engine.errors import EngineError, ErrorCode
from engine.weights.header import Header, invalid, read_header


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one model. A network that is stored in several files has them all, in order."""

    folder: Path
    transformer: tuple[Path, ...]
    transformer_config: Path
    text_encoder: tuple[Path, ...]
    tokenizer: Path
    vae: tuple[Path, ...]
    vae_config: Path | None  # sizes and latent statistics, where they are not Wan's own
    latent_rgb: Path | None  # colours of the latent preview, where they are not Wan's own


class Role(StrEnum):
    """A network, by the name under which its file is usually published."""

    TRANSFORMER = "diffusion_pytorch_model.safetensors"
    TEXT_ENCODER = "models_t5_umt5.safetensors"
    VAE = "Wan2.1_VAE.safetensors"


# A tensor that this network has and no other.
MARKS = {
    "head.modulation": Role.TRANSFORMER,
    "blocks.0.pos_embedding.embedding.weight": Role.TEXT_ENCODER,
    "decoder.middle.0.residual.0.gamma": Role.VAE,
}
TRANSFORMER_CONFIG = "config.json"
TOKENIZER = "spiece.model"
LATENT_RGB = "latent_rgb.json"
SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.safetensors")


def find_model(folder: Path) -> ModelFiles:
    """The files of the model in `folder` and its subfolders.

    Raises MODEL_NOT_FOUND, naming everything that is missing at once, and MODEL_INVALID for a file that is damaged
    or stands for the same network as another.
    """
    networks = _networks(folder)
    transformer = networks.get(Role.TRANSFORMER)
    config = (transformer[0].parent if transformer else folder) / TRANSFORMER_CONFIG
    tokenizer = _only(sorted(folder.rglob(TOKENIZER)))
    missing: list[str] = [role for role in Role if role not in networks]
    missing += [] if config.is_file() else [TRANSFORMER_CONFIG]
    missing += [] if tokenizer else [TOKENIZER]
    if missing or transformer is None or tokenizer is None:
        raise EngineError(ErrorCode.MODEL_NOT_FOUND, folder=str(folder), missing=", ".join(missing))
    vae = networks[Role.VAE]
    return ModelFiles(
        folder=folder,
        transformer=transformer,
        transformer_config=config,
        text_encoder=networks[Role.TEXT_ENCODER],
        tokenizer=tokenizer,
        vae=vae,
        vae_config=_if_there(vae[0].with_suffix(".json")),
        latent_rgb=_if_there(folder / LATENT_RGB),
    )


def _networks(folder: Path) -> dict[Role, tuple[Path, ...]]:
    found: dict[Role, tuple[Path, ...]] = {}
    for files in _file_groups(folder):
        header: Header = {}
        for file in files:
            header |= read_header(file)
        for role in (role for mark, role in MARKS.items() if mark in header):
            if role in found:
                raise invalid(files[0], f"the same network as {found[role][0]}")
            found[role] = files
    return found


def _file_groups(folder: Path) -> Iterator[tuple[Path, ...]]:
    """Single files alone, the parts of a split file together."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for file in sorted(folder.rglob("*.safetensors")):
        shard = SHARD.fullmatch(file.name)
        stem = f"{shard['stem']}-of-{shard['count']}" if shard else file.name
        groups.setdefault((file.parent, stem), []).append(file)
    for files in groups.values():
        _check_parts(files)
        yield tuple(files)


def _check_parts(files: list[Path]) -> None:
    shard = SHARD.fullmatch(files[0].name)
    if shard is None:
        return
    count = int(shard["count"])
    names = {f"{shard['stem']}-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)}
    missing = sorted(names - {file.name for file in files})
    if missing:
        raise EngineError(ErrorCode.MODEL_NOT_FOUND, folder=str(files[0].parent), missing=", ".join(missing))


def _only(files: list[Path]) -> Path | None:
    if len(files) > 1:
        raise invalid(files[1], f"the same as {files[0]}; one is needed")
    return files[0] if files else None


def _if_there(file: Path) -> Path | None:
    return file if file.is_file() else None
