"""The files that were found, as a list that a view can show; lives on the UI thread."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal, Slot

from desktop.model_words import ability_text, details_text, refused_text, size_text, what_text
from desktop.state.found_models import FoundFile, FoundModels
from engine.errors import EngineError
from engine.weights.families import Role

Index = QModelIndex | QPersistentModelIndex
ORDER = {role: place for place, role in enumerate(Role)}
USER = Qt.ItemDataRole.UserRole.value


class ItemRole(IntEnum):
    """What a line is painted from."""

    WHAT = USER  # str: what the file is, or why it is refused
    SIZE = USER + 1  # str
    IS_REFUSED = USER + 2  # bool


@dataclass(frozen=True, slots=True, eq=False)
class FoundItem:
    """One line of the list, made once for what it tells of."""

    name: str
    what: str
    size: str
    details: str
    is_refused: bool


class FoundItems(QAbstractListModel):
    """Models first, then their parts, LoRAs and the rest; what is refused comes last."""

    refreshed = Signal()

    def __init__(self, found: FoundModels, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._found = found
        self._items: list[FoundItem] = []
        # Words are made once for each of hundreds of files, which are held as long so that no other gets their id.
        self._made: dict[int, tuple[FoundFile | EngineError, FoundItem]] = {}
        found.changed.connect(self.refresh)
        self.refresh()

    @Slot()
    def refresh(self) -> None:
        """Take what was found by now. What is only more leaves the lines that are there, and the chosen one, alone."""
        items = self._make_items()
        rest = iter(items)
        if all(item in rest for item in self._items):
            self._insert_new(items)
        else:
            self.beginResetModel()
            self._items = items
            self.endResetModel()
        self.refreshed.emit()

    def _insert_new(self, items: list[FoundItem]) -> None:
        for row, item in enumerate(items):
            if row == len(self._items) or self._items[row] is not item:
                self.beginInsertRows(QModelIndex(), row, row)
                self._items.insert(row, item)
                self.endInsertRows()

    def _make_items(self) -> list[FoundItem]:
        files = sorted(self._found.files(), key=lambda file: (ORDER[file.role], file.path.name.lower(), file.path))
        refused = sorted(self._found.refused(), key=lambda error: str(error.details["file"]).lower())
        sources: list[FoundFile | EngineError] = [*files, *refused]
        self._made = {id(source): self._item_of(source) for source in sources}
        return [item for _, item in self._made.values()]

    def _item_of(self, source: FoundFile | EngineError) -> tuple[FoundFile | EngineError, FoundItem]:
        made = self._made.get(id(source))
        if made is not None:
            return made
        return source, _file_item(source) if isinstance(source, FoundFile) else _refused_item(source)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._items)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> str | bool | None:
        if not index.isValid():
            return None
        item = self._items[index.row()]
        by_role: dict[int, str | bool] = {
            Qt.ItemDataRole.DisplayRole.value: item.name,
            Qt.ItemDataRole.ToolTipRole.value: item.details,
            Qt.ItemDataRole.AccessibleTextRole.value: ", ".join(filter(None, (item.name, item.what, item.size))),
            ItemRole.WHAT.value: item.what,
            ItemRole.SIZE.value: item.size,
            ItemRole.IS_REFUSED.value: item.is_refused,
        }
        return by_role.get(int(role))


def _file_item(file: FoundFile) -> FoundItem:
    parts = len(file.report.files)
    name = file.path.name if parts == 1 else f"{file.path.name} + {parts - 1}"
    return FoundItem(
        name, f"{what_text(file)} · {ability_text(file)}", size_text(file), details_text(file), is_refused=False
    )


def _refused_item(error: EngineError) -> FoundItem:
    path = Path(str(error.details["file"]))
    return FoundItem(path.name, refused_text(error), "", f"{path}\n{refused_text(error)}", is_refused=True)
