"""What can be done with keys and from the menu, as data, and the QActions made from it; UI thread."""

from dataclasses import dataclass
from enum import StrEnum

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMenu, QWidget

from desktop.theme import Appearance


class ActionName(StrEnum):
    """The actions."""

    GENERATE = "generate"
    CANCEL = "cancel"
    REROLL = "reroll"
    STEP_BACK = "step_back"
    STEP_ON = "step_on"
    MODELS = "models"
    OPTIMISE = "optimise"
    OPEN_LATENTS = "open_latents"
    SHOW_FOLDER = "show_folder"
    RESTORE = "restore"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One action: its words and its keys in Qt's portable form."""

    name: ActionName
    text: str
    keys: str = ""
    in_menu: bool = False


Actions = dict[ActionName, QAction]

translate = QCoreApplication.translate  # under this name lupdate finds the strings


def action_specs() -> tuple[ActionSpec, ...]:
    """The actions in the order of the menu, in the language in force."""
    return (
        ActionSpec(ActionName.GENERATE, translate("actions", "Generate"), "Ctrl+Return"),
        ActionSpec(ActionName.CANCEL, translate("actions", "Cancel"), "Esc"),
        ActionSpec(ActionName.STEP_BACK, translate("actions", "One frame back"), "Ctrl+Left"),
        ActionSpec(ActionName.STEP_ON, translate("actions", "One frame on"), "Ctrl+Right"),
        ActionSpec(ActionName.REROLL, translate("actions", "Another seed"), "Ctrl+R", in_menu=True),
        ActionSpec(ActionName.RESTORE, translate("actions", "Restore default settings"), in_menu=True),
        ActionSpec(ActionName.MODELS, translate("actions", "Models…"), "Ctrl+M", in_menu=True),
        ActionSpec(ActionName.OPTIMISE, translate("actions", "Memory and speed…"), "Ctrl+T", in_menu=True),
        ActionSpec(ActionName.OPEN_LATENTS, translate("actions", "Open latents…"), "Ctrl+O", in_menu=True),
        ActionSpec(ActionName.SHOW_FOLDER, translate("actions", "Open the video folder"), in_menu=True),
        ActionSpec(ActionName.QUIT, translate("actions", "Quit"), "Ctrl+Q", in_menu=True),
    )


def appearance_names() -> dict[Appearance, str]:
    """The appearances in the order of the menu."""
    return {
        Appearance.SYSTEM: translate("actions", "As the system"),
        Appearance.LIGHT: translate("actions", "Light"),
        Appearance.DARK: translate("actions", "Dark"),
    }


def make_actions(window: QWidget) -> Actions:
    """The actions, with their keys working everywhere in `window`."""
    return {spec.name: _make_action(spec, window) for spec in action_specs()}


def make_appearance_group(window: QWidget, chosen: Appearance) -> QActionGroup:
    """One checkable action an appearance, of which one is chosen; each carries its `Appearance` value as data."""
    group = QActionGroup(window)
    for appearance, name in appearance_names().items():
        action = group.addAction(name)
        action.setCheckable(True)
        action.setData(appearance.value)
        action.setChecked(appearance is chosen)
    return group


def make_menu(window: QWidget, actions: Actions, appearances: QActionGroup) -> QMenu:
    """The menu behind the three dots."""
    menu = QMenu(window)
    for spec in action_specs():
        if not spec.in_menu:
            continue
        if spec.name is ActionName.QUIT:
            menu.addSeparator()
            menu.addMenu(_appearance_menu(menu, appearances))
            menu.addSeparator()
        menu.addAction(actions[spec.name])
    return menu


def _appearance_menu(menu: QMenu, appearances: QActionGroup) -> QMenu:
    appearance_menu = QMenu(translate("actions", "Appearance"), menu)
    appearance_menu.addActions(appearances.actions())
    return appearance_menu


def _make_action(spec: ActionSpec, window: QWidget) -> QAction:
    action = QAction(spec.text, window)
    action.setObjectName(spec.name)
    if spec.keys:
        action.setShortcut(QKeySequence(spec.keys))
        action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
    window.addAction(action)
    return action
