"""What the window has to know about a model folder: the defaults of the model in it; reads one small file."""

import json
from pathlib import Path

from desktop.state.prompt import PromptState
from engine.errors import EngineError, ErrorCode
from engine.presets import ModelDefaults, defaults_for

CONFIG = "config.json"


def model_defaults(folder: Path) -> ModelDefaults:
    """Defaults of the model in `folder`. Raises EngineError MODEL_NOT_FOUND or MODEL_INVALID."""
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except OSError as error:
        raise EngineError(ErrorCode.MODEL_NOT_FOUND, folder=str(folder), missing=CONFIG) from error
    except ValueError as error:
        raise EngineError(ErrorCode.MODEL_INVALID, file=str(folder / CONFIG), reason=str(error)) from error
    return defaults_for(config)


def open_prompt(folder: Path) -> tuple[PromptState, EngineError | None]:
    """The panel's state for the model in `folder`; with what is wrong with the folder, told once in the window."""
    try:
        return PromptState(folder, model_defaults(folder)), None
    except EngineError as error:
        return PromptState(folder, defaults_for({})), error
