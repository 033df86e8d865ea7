"""The panel's state for a model folder; reads the headers of the folder's files, on the UI thread."""

from pathlib import Path

from desktop.state.prompt import PromptState
from engine.errors import EngineError
from engine.presets import defaults_for, defaults_of


def open_prompt(folder: Path) -> tuple[PromptState, EngineError | None]:
    """The state with the defaults of the model in `folder`, and what is wrong with the folder.

    A folder without a usable model gets the settings that Wan models share, so that the window can open and say so.
    """
    try:
        return PromptState(folder, defaults_of(folder)), None
    except EngineError as error:
        return PromptState(folder, defaults_for({})), error
