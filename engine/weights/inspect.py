"""The report on a model file, or on a folder of them: what each is, and what a whole model still lacks.

Reads headers only, and without torch but for files of `torch.save`. Lives on the thread of its caller.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ErrorCode
from engine.weights.card import bytes_on_card
from engine.weights.complete import CONFIG, missing_files
from engine.weights.header import invalid
from engine.weights.identify import Description, identify
from engine.weights.model_files import TOKENIZER_FILES, is_checkpoint, walk_models
from engine.weights.shards import parts_of
from engine.weights.stored_header import read_stored_header


@dataclass(frozen=True, slots=True)
class FileReport:
    """What one checkpoint is; `card` are the bytes that it takes on the card, by form. Its files in their order."""

    files: tuple[Path, ...]
    model: Description
    card: dict[str, int]
    has_tokenizer: bool


@dataclass(frozen=True, slots=True)
class FolderReport:
    """All checkpoints in a folder, why other files of the kind are none, and the official names of what is missing."""

    folder: Path
    reports: tuple[FileReport, ...]
    refused: tuple[EngineError, ...]
    missing: tuple[str, ...]


def inspect(path: Path) -> FileReport | FolderReport:
    """The report on a file, with its other parts if it is one of several, or on a folder with all in it.

    Raises MODEL_INVALID for a file that cannot be used, and MODEL_NOT_FOUND for a path where nothing is.
    """
    if not path.exists():
        raise EngineError(ErrorCode.MODEL_NOT_FOUND, folder=str(path.parent), missing=path.name)
    return inspect_folder(path) if path.is_dir() else inspect_files(parts_of(path))


def inspect_files(files: tuple[Path, ...]) -> FileReport:
    """The report on one checkpoint. Raises MODEL_INVALID."""
    stored = read_stored_header(files)
    model = identify(stored.header, stored.metadata, files[0], stored.read)
    return FileReport(files, model, bytes_on_card(model), stored.has_tokenizer)


def inspect_folder(folder: Path) -> FolderReport:
    """The report on all model files in `folder` and below; a file that cannot be used stops nothing.

    Raises MODEL_INVALID for a folder that cannot be read; one that is not there has no files.
    """
    reports: list[FileReport] = []
    refused: list[EngineError] = []
    for first in _checkpoints(folder):
        try:
            reports.append(inspect_files(parts_of(first)))
        except EngineError as error:
            refused.append(error)
        except OSError as error:
            refused.append(invalid(first, str(error)))
    has_tokenizer = any(report.has_tokenizer for report in reports) or _has_file(folder, TOKENIZER_FILES)
    models = [report.model for report in reports]
    missing = missing_files(models, has_tokenizer=has_tokenizer, has_config=_has_config)
    return FolderReport(folder, tuple(reports), tuple(refused), missing)


def _checkpoints(folder: Path) -> list[Path]:
    try:
        return [file for file in walk_models(folder) if is_checkpoint(file)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise invalid(folder, str(error)) from error


def _has_config(model: Description) -> bool:
    return model.path.with_name(CONFIG).is_file()


def _has_file(folder: Path, names: tuple[str, ...]) -> bool:
    return any(next(folder.rglob(name), None) is not None for name in names)


def report_fields(report: FileReport | FolderReport) -> dict[str, Any]:
    """`report` as JSON can hold it."""
    if isinstance(report, FileReport):
        return _file_fields(report)
    refused = [{"code": error.code, **error.details} for error in report.refused]
    files = [_file_fields(of) for of in report.reports]
    return {"folder": str(report.folder), "files": files, "refused": refused, "missing": list(report.missing)}


def _file_fields(report: FileReport) -> dict[str, Any]:
    model = report.model
    quantization = {
        form: {"layers": amount.layers, "parameters": amount.parameters} for form, amount in model.quantization.items()
    }
    return {
        "files": [str(file) for file in report.files],
        "family": model.family.name,
        "alternatives": list(model.family.alternatives),
        "expert": model.family.expert,
        "role": model.role,
        "layout": model.layout,
        "prefix": model.prefix,
        "quantization": quantization,
        "parameters": model.parameters,
        "bytes_on_disk": model.bytes_on_disk,
        "bytes_on_card": report.card,
        "missing": list(model.missing),
        "unexpected": list(model.unexpected),
    }
