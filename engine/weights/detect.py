"""Which files make the model of a job: found in its folder, or named one by one; torch-free, reads headers only."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError, ErrorCode
from engine.model_choice import ModelParts
from engine.weights.complete import (
    CONFIG,
    EXPERTS,
    OFFICIAL_VAES,
    TOKENIZER,
    VAE_21,
    WITH_EXPERTS,
    attends_to_pictures,
    latent_channels,
    missing_files,
)
from engine.weights.families import Role
from engine.weights.header import invalid
from engine.weights.identify import UNKNOWN, Description
from engine.weights.inspect import FileReport, inspect_files, inspect_folder
from engine.weights.model_files import JSON_FILE, SPIECE_FILE
from engine.weights.provenance import Expert
from engine.weights.shards import parts_of

LATENT_RGB = "latent_rgb.json"
NO_PARTS = ModelParts()


@dataclass(frozen=True, slots=True)
class VaeFiles:
    """The files that a decode needs. A network that is stored in several files has them all, in order."""

    folder: Path | None  # the one that was named, and None for a single file, whose neighbours are no part of the model
    vae: tuple[Path, ...]
    vae_config: Path | None  # sizes and latent statistics, where they are not Wan's own
    latent_rgb: Path | None  # colours of the latent preview, where they are not Wan's own


@dataclass(frozen=True, slots=True)
class ModelFiles(VaeFiles):
    """The files of one model.

    low_noise: the second of two transformers. tokenizer: a file of its own, or a text encoder's that has it inside.
    """

    transformer: tuple[Path, ...]
    low_noise: tuple[Path, ...] | None
    transformer_config: Path | None  # where there is one; only sizes that no published model has need it
    text_encoder: tuple[Path, ...]
    tokenizer: Path
    image_encoder: tuple[Path, ...] | None


def find_model(model: Path, parts: ModelParts = NO_PARTS) -> ModelFiles:
    """The files of the model in the folder `model`, or of the transformer in the file `model`, with its `parts`.

    What `parts` name comes before what lies in the folder. Raises MODEL_NOT_FOUND, naming everything that is missing
    at once, and MODEL_INVALID for a file that is damaged, and for several that could have the same place.
    """
    shelf = _Shelf.at(model, parts, Role.TRANSFORMER)
    transformer, low_noise = shelf.transformers()
    text_encoder, image_encoder = shelf.only(Role.TEXT_ENCODER), shelf.image_encoder(transformer)
    vae, tokenizer = shelf.vae(transformer), shelf.tokenizer(text_encoder)
    chosen = [of for of in (transformer, low_noise, text_encoder, image_encoder, vae) if of is not None]
    missing = missing_files((of.model for of in chosen), has_tokenizer=tokenizer is not None, has_config=_has_config)
    if vae is not None:  # one for other latents is there, which the caller has more to say about
        missing = tuple(name for name in missing if name not in OFFICIAL_VAES.values())
    if low_noise is not None:  # whatever the names of the two say
        missing = tuple(name for name in missing if name not in EXPERTS.values())
    if missing or transformer is None or text_encoder is None or vae is None or tokenizer is None:
        raise shelf.lacks(missing)
    return ModelFiles(
        *_vae_files(shelf.searched, vae),
        transformer=transformer.files,
        low_noise=None if low_noise is None else low_noise.files,
        transformer_config=_if_there(transformer.files[0].with_name(CONFIG)),
        text_encoder=text_encoder.files,
        tokenizer=tokenizer,
        image_encoder=None if image_encoder is None else image_encoder.files,
    )


def find_vae(model: Path, parts: ModelParts = NO_PARTS) -> VaeFiles:
    """The files to decode with, of the model in the folder `model`, or of the VAE in the file `model`.

    Raises as `find_model` does, of the VAE alone.
    """
    shelf = _Shelf.at(model, parts, Role.VAE)
    transformers = shelf.of(Role.TRANSFORMER)
    are_alike = len({latent_channels(of.model) for of in transformers}) == 1
    vae = shelf.vae(transformers[0] if are_alike else None)
    if vae is None:
        raise shelf.lacks((VAE_21,))
    return VaeFiles(*_vae_files(shelf.searched, vae))


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What lies at the place that was named, and the parts that were named besides, which come first.

    searched: the folder that was named; the neighbours of a single file are no part of the model.
    """

    folder: Path
    searched: Path | None
    reports: tuple[FileReport, ...]
    refused: tuple[EngineError, ...]
    named: dict[Role, FileReport]
    low_noise: FileReport | None
    named_tokenizer: Path | None

    @classmethod
    def at(cls, model: Path, parts: ModelParts, role_of_file: Role) -> "_Shelf":
        files = {Role.VAE: parts.vae, Role.TEXT_ENCODER: parts.text_encoder, Role.IMAGE_ENCODER: parts.image_encoder}
        named = {role: _named(file, role) for role, file in files.items() if file is not None}
        low_noise = None if parts.low_noise is None else _named(parts.low_noise, Role.TRANSFORMER)
        if model.is_file():
            if role_of_file not in named:  # decoding may have only the transformer's name, and the VAE's beside it
                named[role_of_file] = _named(model, role_of_file)
            return cls(model.parent, None, (), (), named, low_noise, parts.tokenizer)
        found = inspect_folder(model)
        return cls(model, model, found.reports, found.refused, named, low_noise, parts.tokenizer)

    def of(self, role: Role) -> list[FileReport]:
        """What can have the place `role`: what was named, else all that was found."""
        return [self.named[role]] if role in self.named else [of for of in self.reports if of.model.role is role]

    def only(self, role: Role) -> FileReport | None:
        """The one for `role`, if there is one. Raises MODEL_INVALID for several."""
        return _only(self.of(role))

    def transformers(self) -> tuple[FileReport | None, FileReport | None]:
        """The transformer, and where there are two of one model, that which ends the work."""
        found = self.of(Role.TRANSFORMER)
        if self.low_noise is not None:
            return _only(of for of in found if of.files != self.low_noise.files), self.low_noise
        by_expert = {of.model.family.expert: of for of in found}
        families = {of.model.family.name for of in found}
        if len(found) == 2 and set(by_expert) == set(Expert) and len(families) == 1 and families <= {*WITH_EXPERTS}:
            return by_expert[Expert.HIGH_NOISE], by_expert[Expert.LOW_NOISE]
        return _only(found), None

    def vae(self, transformer: FileReport | None) -> FileReport | None:
        """The VAE; of several that were found, the one whose latents the transformer makes."""
        found = self.of(Role.VAE)
        if len(found) > 1 and transformer is not None:
            wanted = latent_channels(transformer.model)
            found = [of for of in found if latent_channels(of.model) == wanted] or found
        return _only(found)

    def image_encoder(self, transformer: FileReport | None) -> FileReport | None:
        """The image encoder, for a transformer that has a use for it, or when one was named."""
        is_used = transformer is not None and attends_to_pictures(transformer.model)
        return self.only(Role.IMAGE_ENCODER) if is_used or Role.IMAGE_ENCODER in self.named else None

    def tokenizer(self, text_encoder: FileReport | None) -> Path | None:
        """The file with the tokenizer. Raises MODEL_INVALID for several of one kind."""
        if self.named_tokenizer is not None:
            return self.named_tokenizer
        if (spiece := self._single(SPIECE_FILE)) is not None:
            return spiece
        if text_encoder is not None and text_encoder.has_tokenizer:
            return text_encoder.files[0]
        return self._single(JSON_FILE)  # which may be that of another network

    def _single(self, name: str) -> Path | None:
        files = sorted(self.folder.rglob(name)) if self.searched else []
        if len(files) > 1:
            raise invalid(files[1], f"the same as {files[0]}; one is needed")
        return files[0] if files else None

    def lacks(self, missing: tuple[str, ...]) -> EngineError:
        """The failure for what is missing: a file that is there and damaged says more than a name that is not.

        Files of other programs' networks say nothing, nor does any file when no network is missing.
        """
        ours = [error for error in self.refused if error.details.get("reason") != UNKNOWN]
        if ours and not {*missing} <= {TOKENIZER, CONFIG}:
            return ours[0]
        return EngineError(ErrorCode.MODEL_NOT_FOUND, folder=str(self.folder), missing=", ".join(missing))


def _vae_files(folder: Path | None, vae: FileReport) -> tuple[Path | None, tuple[Path, ...], Path | None, Path | None]:
    config = vae.files[0].with_suffix(".json")
    return folder, vae.files, _if_there(config), None if folder is None else _if_there(folder / LATENT_RGB)


def _named(file: Path, role: Role) -> FileReport:
    """The report on a file that was named for a role. Raises MODEL_INVALID when it is something else."""
    report = inspect_files(parts_of(file))
    if report.model.role is not role:
        raise invalid(file, f"it is a {report.model.role} ({report.model.family.name}), not a {role}")
    return report


def _only(reports: Iterable[FileReport]) -> FileReport | None:
    """The only one, if there is one. Raises MODEL_INVALID for several."""
    found = [*reports]
    if len(found) > 1:
        first, second, *_ = found
        raise invalid(second.files[0], f"a {second.model.role} as {first.files[0]} is; one is needed, so name it")
    return found[0] if found else None


def _has_config(transformer: Description) -> bool:
    return transformer.path.with_name(CONFIG).is_file()


def _if_there(file: Path) -> Path | None:
    return file if file.is_file() else None
