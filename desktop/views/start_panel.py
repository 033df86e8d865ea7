"""What the video begins from: the way, its pictures and clips, and how far a clip is restyled; UI thread."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from desktop.failure_words import failure_text
from desktop.start_words import facts_text, proposal_text, refused_start_text, slot_name, start_name, too_short_text
from desktop.state.prompt import PromptState
from desktop.state.start import EXTEND, FIRST, LAST, RESTYLE, StartKind, start_refusal
from desktop.state.thumbnails import Thumbnail, Thumbnails
from desktop.theme import Colours
from desktop.views.choice_box import ChoiceBox, Option
from desktop.views.decode_fields import field_row
from desktop.views.media_slot import MediaSlot
from desktop.views.slider_row import SliderRow
from engine.errors import EngineError
from engine.pictures.fit import fitted_size

ORDER = (RESTYLE, EXTEND, FIRST, LAST)  # of the slots, of which never more than three are to be seen


class StartPanel(QWidget):
    """What the person chooses is written into `StartState`; what is shown comes from there."""

    file_requested = Signal(str)  # slot

    def __init__(self, state: PromptState, thumbnails: Thumbnails, colours: Colours) -> None:
        super().__init__()
        self._state, self._thumbnails = state, thumbnails
        self._kind = ChoiceBox(self.tr("Begin with"))
        self._kind.setObjectName("startKind")
        self.slots = {slot: MediaSlot(slot, colours) for slot in ORDER}
        self._strength = SliderRow(self.tr("Strength"), 0.05, 1, 0.05, decimals=2)
        self._strength.set_hint(self.tr("How much of the clip is made anew; at 1 nothing is left of it."))
        self.proposal = QPushButton()
        self.proposal.setObjectName("proposal")
        self.proposal.setProperty("role", "link")
        self._lay_out()
        self._connect()
        self.refresh()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        for slot in self.slots.values():
            slot.paint_in(colours)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(field_row(self.tr("Begin with"), self._kind))
        for slot in self.slots.values():
            column.addWidget(slot)
        column.addWidget(self.proposal)
        column.addWidget(self._strength)

    def _connect(self) -> None:
        start = self._state.start
        self._kind.option_chosen.connect(start.choose)
        self._strength.value_edited.connect(start.set_strength)
        self.proposal.clicked.connect(self._take_proposal)
        for slot in self.slots.values():
            slot.choose_requested.connect(self.file_requested)
            slot.clear_requested.connect(self._clear)
            slot.file_dropped.connect(self._take_file)
        start.changed.connect(self.refresh)
        self._state.values_changed.connect(self.refresh)
        self._state.model_changed.connect(self.refresh)
        self._thumbnails.changed.connect(self.refresh)

    @Slot()
    def refresh(self) -> None:
        """Show the state."""
        start = self._state.start
        self._kind.show_options([self._option(kind) for kind in StartKind], start.kind)
        for name, slot in self.slots.items():
            slot.setVisible(name in start.slots)
            if name in start.slots:
                self._show_slot(name, slot)
        self._strength.setVisible(RESTYLE in start.slots)
        self._strength.show_value(start.strength)
        size = self._proposed()
        self.proposal.setVisible(size is not None)
        if size is not None:
            self.proposal.setText(proposal_text(size))

    def _option(self, kind: StartKind) -> Option:
        refusal = start_refusal(kind, self._state.start.use)
        return Option(start_name(kind), kind, "" if refusal is None else refused_start_text(refusal), refusal is None)

    def _show_slot(self, name: str, slot: MediaSlot) -> None:
        file, answer = self._state.start.files.get(name), self._thumbnails.of(name)
        if file is None:
            slot.show_file(None, None, self.tr("Choose or drop a file"), "")
        elif isinstance(answer, EngineError):
            text = failure_text(answer.code, answer.details, None)
            slot.show_file(file, None, "", text.title)
        elif answer is None:
            slot.show_file(file, None, self.tr("Reading…"), "")
        else:
            self._show_thumbnail(name, slot, file, answer)

    def _show_thumbnail(self, name: str, slot: MediaSlot, file: Path, answer: Thumbnail) -> None:
        is_clip = name in (EXTEND, RESTYLE)
        is_short = name == RESTYLE and answer.frames < self._state.values.frames
        facts = facts_text(answer, is_clip=is_clip, fps=self._state.defaults.fps)
        slot.show_file(
            file, answer.image, f"{slot_name(name)}, {facts}", too_short_text(answer.frames) if is_short else ""
        )

    def _proposed(self) -> tuple[int, int] | None:
        """The shape of the first file in about as many pixels as the model was trained on; None where it is that."""
        start, values = self._state.start, self._state.values
        answer = self._thumbnails.of(start.slots[0]) if start.slots else None
        if not isinstance(answer, Thumbnail) or self._state.problem() is not None:
            return None
        defaults, now = self._state.defaults, values.width * values.height
        area = min((width * height for width, height in defaults.sizes), key=lambda area: abs(area - now))
        size = fitted_size(answer.size, area, defaults.size_multiple, start.use.road)
        return None if (values.width, values.height) == size else size

    @Slot()
    def _take_proposal(self) -> None:
        size = self._proposed()
        if size is not None:
            self._state.change(replace(self._state.values, width=size[0], height=size[1]))

    @Slot(str)
    def _clear(self, slot: str) -> None:
        self._state.start.set_file(slot, None)

    @Slot(str, object)
    def _take_file(self, slot: str, file: Path) -> None:
        self._state.start.set_file(slot, file)
