"""The chosen model, the form of its weights, and its parts, each with what is missing; UI thread."""

from pathlib import Path

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from desktop.library_words import (
    PARTS_OF_NAMES,
    form_text,
    missing_text,
    model_text,
    part_text,
    standing_text,
    whole_text,
)
from desktop.model_words import details_text, display_name, stored_text
from desktop.state.library import Library, Standing
from desktop.state.matching import ModelPart
from desktop.views.choice_box import ChoiceBox, Option
from desktop.views.wrapped_label import WrappedLabel
from engine.model_choice import WeightForm

LABEL_WIDTH = 104


class ModelFields(QWidget):
    """What the person chooses is written into the library; what is shown comes from there."""

    def __init__(self, library: Library) -> None:
        super().__init__()
        self._library = library
        self._model = _FieldRow("model", self.tr("Model"))
        self._weights = _FieldRow("weights", self.tr("Weights"))
        self._parts = {part: _FieldRow(part, part_text(part)) for part in ModelPart}
        self._note = WrappedLabel()
        self._note.setProperty("role", "small")
        self._note.setObjectName("modelNote")
        self._note.setContentsMargins(LABEL_WIDTH + 8, 0, 0, 0)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for widget in (self._model, self._weights, *self._parts.values(), self._note):
            column.addWidget(widget)
        self._connect()
        self.refresh()

    @property
    def boxes(self) -> list[ChoiceBox]:
        """All lists, in order."""
        return [self._model.box, self._weights.box, *(row.box for row in self._parts.values())]

    def _connect(self) -> None:
        self._model.box.option_chosen.connect(self._take_model)
        self._weights.box.option_chosen.connect(self._take_weights)
        for row in self._parts.values():
            row.option_chosen.connect(self._take_part)
        self._library.changed.connect(self.refresh)

    @Slot()
    def refresh(self) -> None:
        """Show the choice and what is missing for it."""
        missing = self._library.missing() if self._library.standing is Standing.INCOMPLETE else ()
        self._show_model([name for name in missing if name not in PARTS_OF_NAMES])
        self._show_weights()
        by_part = {PARTS_OF_NAMES[name]: name for name in missing if name in PARTS_OF_NAMES}
        needed = self._library.needs()
        for part, row in self._parts.items():
            row.setVisible(part in needed)
            if part in needed:
                self._show_part(part, by_part.get(part))
        self._show_note()

    def _show_model(self, missing: list[str]) -> None:
        library = self._library
        options = [Option(whole_text(folder), folder, str(folder)) for folder in library.wholes]
        options += [Option(model_text(file), file.path, details_text(file)) for file in library.models()]
        path = library.choice.model
        if all(option.value != path for option in options):
            options.append(Option(display_name(path), path, str(path)))
        self._model.box.show_options(options, path)
        is_problem = library.standing in (Standing.GONE, Standing.REFUSED)
        self._model.say([standing_text(library)] if is_problem else [missing_text(name) for name in missing])

    def _show_weights(self) -> None:
        forms = self._library.forms()
        self._weights.setVisible(bool(forms))
        options = [Option(form_text(form, size), form) for form, size in forms.items()]
        self._weights.box.show_options(options, self._library.use().weights)
        self._weights.box.setEnabled(len(forms) > 1)

    def _show_part(self, part: ModelPart, missing: str | None) -> None:
        found, by_hand = self._library.options(part), self._library.by_hand(part)
        options = [Option(self.tr("Automatic: {name}").format(name=self._name(found[0])), None)] if found else []
        options += [Option(self._name(path), path, str(path)) for path in found]
        row = self._parts[part]
        row.box.show_options(options, by_hand if by_hand in found else None)
        row.box.setEnabled(bool(found))
        row.box.setPlaceholderText(self.tr("Not found"))
        row.say([] if missing is None else [missing_text(missing)])

    def _name(self, path: Path) -> str:
        file = self._library.file(path)
        return path.name if file is None else f"{display_name(path)} · {stored_text(file)}"

    def _show_note(self) -> None:
        library = self._library
        note = ""
        if library.is_whole:
            note = self.tr("This model brings along all that it needs.")
        elif library.standing is Standing.SEARCHING:
            note = standing_text(library)
        elif library.standing is Standing.INCOMPLETE:
            note = self.tr("The same file under another name, or in a smaller form, will do as well.")
        self._note.show_text(note)
        self._note.setVisible(bool(note))

    @Slot(object)
    def _take_model(self, path: Path) -> None:
        self._library.choose_model(path)

    @Slot(object)
    def _take_weights(self, form: WeightForm) -> None:
        self._library.choose_weights(form)

    @Slot(str, object)
    def _take_part(self, part: str, path: Path | None) -> None:
        self._library.choose_part(ModelPart(part), path)


class _FieldRow(QWidget):
    """A label, a list, and below it what is wrong. `key` tells it from others."""

    option_chosen = Signal(str, object)  # key, value

    def __init__(self, key: str, name: str) -> None:
        super().__init__()
        self._key = key
        self.box = ChoiceBox(name)
        self.box.setObjectName(key)
        self.box.option_chosen.connect(self._announce)
        label = QLabel(name)
        label.setProperty("role", "label")
        label.setFixedWidth(LABEL_WIDTH)
        label.setBuddy(self.box)
        self._problem = WrappedLabel()
        self._problem.setProperty("role", "problem")
        self._problem.setContentsMargins(LABEL_WIDTH + 8, 0, 0, 0)
        self._problem.hide()
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(label)
        row.addWidget(self.box, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self._problem)

    def say(self, problems: list[str]) -> None:
        """Say what is wrong, if anything is."""
        self._problem.show_text("\n".join(problems))
        self._problem.setVisible(bool(problems))

    @Slot(object)
    def _announce(self, value: object) -> None:
        self.option_chosen.emit(self._key, value)
