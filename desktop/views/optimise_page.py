"""The page of memory and speed: the preset for this card, what the next video takes, and every setting; UI thread."""

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QFrame, QHBoxLayout, QPushButton, QVBoxLayout

from desktop.optimise_words import fit_text, sampling_text, waiting_outlook_text
from desktop.preset_words import passed_over_text, preset_title, preset_why, proposed_text
from desktop.state.card import CardState
from desktop.state.library import Library
from desktop.state.optimise import OptimiseValues
from desktop.state.outlook import MEASURED_STAGES
from desktop.state.prompt import PromptState
from desktop.theme import Colours
from desktop.views.optimise_fields import OptimiseFields
from desktop.views.page import Page, heading
from desktop.views.stage_bars import BarScale, StageBars
from desktop.views.wheel_guard import WheelGuard
from desktop.views.wrapped_label import WrappedLabel
from engine.model_choice import WeightForm


class OptimisePage(Page):
    """What is chosen here takes effect at once: the bars are those of the next video."""

    def __init__(self, state: PromptState, library: Library, card: CardState, colours: Colours) -> None:
        super().__init__(self.tr("Memory and speed"), self.tr("Close memory and speed"))
        self.setObjectName("optimisePage")
        self._state, self._library, self._card = state, library, card
        self._preset, self._why, self._proposed, self._instead = (
            heading(""), WrappedLabel(), WrappedLabel(), WrappedLabel(),
        )  # fmt: skip
        self.use, self.reset = QPushButton(self.tr("Use the preset")), QPushButton(self.tr("Leave all to Tessera"))
        self.bars = StageBars(colours)
        self._sampling, self._problem = WrappedLabel(), WrappedLabel()
        self.fields = OptimiseFields(state, library, card)
        self._set_up()
        self._lay_out()
        card.changed.connect(self.refresh)
        library.changed.connect(self.refresh)
        self.paint_in(colours)
        self.refresh()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        super().paint_in(colours)
        self.bars.paint_in(colours)

    def take_focus(self) -> None:
        """Put the focus on the preset, or where there is nothing to use on the first setting."""
        (self.use if self.use.isEnabled() else self.fields.controls[0]).setFocus()

    def _set_up(self) -> None:
        self._preset.setObjectName("presetTitle")
        self._proposed.setObjectName("presetText")
        self._problem.setObjectName("optimiseProblem")
        self._sampling.setObjectName("optimiseSampling")
        for label in (self._why, self._instead, self._sampling):
            label.setProperty("role", "small")
        self._problem.setProperty("role", "problem")
        self.use.setObjectName("usePreset")
        self.reset.setObjectName("resetOptimise")
        self.reset.setProperty("role", "link")
        self.reset.setToolTip(
            self.tr("Exact attention, weights as stored, and as much on the card as the budget holds.")
        )
        self.use.clicked.connect(self._card.use)
        self.reset.clicked.connect(self._reset)
        guard = WheelGuard(self)
        for kind in (QAbstractSpinBox, QComboBox):
            for widget in self.fields.findChildren(kind):
                guard.watch(widget)

    def _lay_out(self) -> None:
        self.column.addWidget(self._preset_card())
        self.column.addSpacing(12)
        self.column.addWidget(heading(self.tr("What the next video takes")))
        for widget in (self.bars, self._problem, self._sampling):
            self.column.addWidget(widget)
        self.column.addSpacing(12)
        self.column.addWidget(heading(self.tr("Settings")))
        self.column.addWidget(self.fields)
        self.column.addStretch(1)

    def _preset_card(self) -> QFrame:
        card = QFrame()
        card.setObjectName("card")
        column = QVBoxLayout(card)
        column.setContentsMargins(16, 12, 16, 12)
        column.setSpacing(4)
        for label in (self._preset, self._why, self._proposed, self._instead):
            column.addWidget(label)
        row = QHBoxLayout()
        row.setSpacing(12)
        row.addWidget(self.use)
        row.addWidget(self.reset)
        row.addStretch(1)
        column.addSpacing(4)
        column.addLayout(row)
        return card

    @Slot()
    def refresh(self) -> None:
        """Show the states."""
        self._show_preset()
        self._show_effect()

    def _show_preset(self) -> None:
        card, preset, proposed = self._card, self._card.preset, self._card.proposed
        self._preset.setText(preset_title(card))
        self._why.show_text(preset_why(card))
        instead = "" if proposed is None else passed_over_text(proposed)
        blocks = self._state.outlook.blocks
        self._proposed.show_text("" if preset is None or proposed is None else proposed_text(preset, proposed, blocks))
        self._proposed.setVisible(proposed is not None)
        self._instead.show_text(instead)
        self._instead.setVisible(bool(instead))
        self.use.setText(self.tr("The preset is in use") if card.is_used else self.tr("Use the preset"))
        is_plain = self._state.optimise.values == self._plain()
        self._enable(
            use=proposed is not None and not card.is_used,
            reset=not is_plain or self._state.use.weights is not WeightForm.STORED,
        )

    def _enable(self, *, use: bool, reset: bool) -> None:
        """The focus of a button that cannot be pressed any more goes to the other, and not to a field for numbers."""
        if use and self.reset.hasFocus() and not reset:
            self.use.setEnabled(True)
            self.use.setFocus()
        elif reset and self.use.hasFocus() and not use:
            self.reset.setEnabled(True)
            self.reset.setFocus()
        self.use.setEnabled(use)
        self.reset.setEnabled(reset)

    def _show_effect(self) -> None:
        outlook = self._state.outlook
        known = None if outlook.is_put_off else outlook.outlook
        stages = [] if known is None else [each for each in known.planned.stages if each.stage in MEASURED_STAGES]
        self.bars.show_stages(stages, BarScale(outlook.budget_bytes, self._card.total_bytes))
        self.bars.setVisible(bool(stages))
        problem = fit_text(outlook)
        self._problem.show_text(problem)
        self._problem.setVisible(bool(problem))
        self._sampling.show_text(
            waiting_outlook_text(outlook) if known is None else sampling_text(known.planned.sampling)
        )
        self._sampling.setVisible(known is not None or not problem)

    def _plain(self) -> OptimiseValues:
        """The first values, within the person's budget."""
        return OptimiseValues(budget_bytes=self._state.optimise.values.budget_bytes)

    @Slot()
    def _reset(self) -> None:
        self._state.optimise.change(self._plain())
        self._library.choose_weights(WeightForm.STORED)
