"""Colours, fonts and style sheet of the light and the dark theme; lives on the UI thread.

The theme follows the system unless the person chose one. Every colour in the program comes from `Colours`;
text on its ground keeps a contrast of at least 4.5:1, which a test computes.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from string import Template

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication

RESOURCES = Path(__file__).resolve().parent.parent / "resources"
STYLE_FILE = RESOURCES / "style.qss"
FONT_FAMILIES = [
    "Segoe UI Variable Text",
    "Segoe UI",
    "SF Pro Text",
    "Inter",
    "Noto Sans",
    "Cantarell",
    "Ubuntu",
    "DejaVu Sans",
]
BASE_FONT_PX = 13


class Appearance(StrEnum):
    """What the person chose."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True, slots=True)
class Colours:
    """One theme; each is a CSS colour."""

    window: str  # behind everything
    panel: str  # cards and side panel
    field: str  # what can be edited
    field_hover: str
    border: str
    text: str
    text_dim: str  # labels and units
    text_faint: str  # placeholders, disabled
    accent: str
    accent_hover: str
    accent_pressed: str
    on_accent: str
    track: str  # the empty part of bars and sliders
    others: str  # other programs' memory
    stage: str  # around the picture
    danger: str
    danger_ground: str
    selection: str


DARK = Colours(
    window="#101317",
    panel="#171b21",
    field="#1f242c",
    field_hover="#262c36",
    border="#2b323d",
    text="#e8ebf0",
    text_dim="#9ca7b6",
    text_faint="#6f7a8a",
    accent="#41c7ad",
    accent_hover="#5ad6be",
    accent_pressed="#34ae97",
    on_accent="#04231d",
    track="#272e38",
    others="#66727f",
    stage="#0a0c0f",
    danger="#ff9d92",
    danger_ground="#33201f",
    selection="#24584f",
)
LIGHT = Colours(
    window="#f2f4f6",
    panel="#ffffff",
    field="#f4f6f8",
    field_hover="#ebeef2",
    border="#d8dee5",
    text="#151a21",
    text_dim="#566172",
    text_faint="#838d9a",
    accent="#0a7d6b",
    accent_hover="#0b8d79",
    accent_pressed="#086a5b",
    on_accent="#ffffff",
    track="#e2e7ec",
    others="#9aa5b3",
    stage="#e6eaee",
    danger="#a8281c",
    danger_ground="#fdeeec",
    selection="#bfe5de",
)


class Theme(QObject):
    """The colours in force; tells when they change."""

    colours_changed = Signal()

    def __init__(self, app: QApplication, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._app = app
        self.appearance = Appearance.SYSTEM
        self.colours = DARK
        app.setStyle("Fusion")
        app.setFont(_base_font())
        app.styleHints().colorSchemeChanged.connect(self._follow_system)
        self._apply()

    @property
    def is_dark(self) -> bool:
        """Whether the dark theme is in force."""
        return self.colours is DARK

    def choose(self, appearance: Appearance) -> None:
        """Follow the system, or stay light or dark."""
        self.appearance = appearance
        self._apply()

    @Slot()
    def _follow_system(self) -> None:
        if self.appearance is Appearance.SYSTEM:
            self._apply()

    def _apply(self) -> None:
        self.colours = _colours_for(self.appearance, self._app.styleHints().colorScheme())
        self._app.setPalette(_palette(self.colours))
        self._app.setStyleSheet(style_sheet(self.colours))
        self.colours_changed.emit()


def _colours_for(appearance: Appearance, system: Qt.ColorScheme) -> Colours:
    if appearance is Appearance.SYSTEM:
        # A system that says nothing gets the dark theme: pictures are judged better on a dark ground.
        return LIGHT if system is Qt.ColorScheme.Light else DARK
    return LIGHT if appearance is Appearance.LIGHT else DARK


def style_sheet(colours: Colours) -> str:
    """The style sheet with the theme's colours in it. Raises KeyError on a name that `Colours` lacks."""
    return Template(STYLE_FILE.read_text("utf-8")).substitute(asdict(colours), icons=(RESOURCES / "icons").as_posix())


def _base_font() -> QFont:
    font = QFont()
    font.setFamilies(FONT_FAMILIES)
    font.setPixelSize(BASE_FONT_PX)
    font.setFeature(QFont.Tag("tnum"), 1)  # figures of equal width: counters must not wobble
    return font


def _palette(colours: Colours) -> QPalette:
    """For what style sheets do not reach: dialogs, selections, menus of the platform."""
    palette = QPalette()
    for role, colour in (
        (QPalette.ColorRole.Window, colours.window),
        (QPalette.ColorRole.WindowText, colours.text),
        (QPalette.ColorRole.Base, colours.field),
        (QPalette.ColorRole.AlternateBase, colours.panel),
        (QPalette.ColorRole.Text, colours.text),
        (QPalette.ColorRole.Button, colours.panel),
        (QPalette.ColorRole.ButtonText, colours.text),
        (QPalette.ColorRole.ToolTipBase, colours.panel),
        (QPalette.ColorRole.ToolTipText, colours.text),
        (QPalette.ColorRole.PlaceholderText, colours.text_faint),
        (QPalette.ColorRole.Highlight, colours.selection),
        (QPalette.ColorRole.HighlightedText, colours.text),
        (QPalette.ColorRole.Accent, colours.accent),
        (QPalette.ColorRole.Link, colours.accent),
    ):
        palette.setColor(role, QColor(colour))
    return palette
