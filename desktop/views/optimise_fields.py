"""The settings of memory and speed, each with what it would be by the preset; UI thread."""

from dataclasses import replace

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QCheckBox, QDoubleSpinBox, QSpinBox, QVBoxLayout, QWidget

from desktop.backend_words import backend_name, compile_text, unavailable_text
from desktop.library_words import form_text
from desktop.optimise_words import recipe_name, recipe_note, residents_text, solver_name, weights_name
from desktop.preset_words import gave_way_text, preset_note
from desktop.state.card import CardState
from desktop.state.library import Library
from desktop.state.prompt import PromptState
from desktop.views.budget_field import BudgetField
from desktop.views.choice_box import ChoiceBox, Option
from desktop.views.number_field import number_field
from desktop.views.option_row import OptionRow
from engine.card_presets import PresetSettings, distilled_recipes
from engine.commands import BackendState
from engine.generation import AttentionBackend, Solver
from engine.model_choice import WeightForm

AUTOMATIC = -1  # of the blocks, of which 0 is a number as any other
MOST_BLOCKS, MOST_TOKENS, TOKENS_STEP = 999, 10_000_000, 1024
LARGEST_ERROR = 0.5  # of the step cache


class OptimiseFields(QWidget):
    """What the person chooses is written into the states; what is shown comes from there."""

    def __init__(self, state: PromptState, library: Library, card: CardState) -> None:
        super().__init__()
        self._state, self._library, self._card = state, library, card
        self._attention, self._weights = ChoiceBox(self.tr("Attention")), ChoiceBox(self.tr("Weights"))
        self._solver, self._recipe = ChoiceBox(self.tr("Solver")), ChoiceBox(self.tr("Distilled model"))
        self._blocks = _automatic(self.tr("Blocks on the card"), AUTOMATIC, MOST_BLOCKS, 1)
        self._tokens = _automatic(self.tr("Tokens at a time"), 0, MOST_TOKENS, TOKENS_STEP)
        self._cache = number_field(QDoubleSpinBox(), self.tr("Step cache"))
        self._rounds = QCheckBox(self.tr("Round what meets quantised weights"))
        self._compile = QCheckBox(self.tr("Compile the blocks for this card"))
        self._joint = QCheckBox(self.tr("Both passes of guidance at once"))
        self._make_rows()
        self._lay_out()
        self._connect()
        self.refresh()

    @property
    def controls(self) -> list[QWidget]:
        """All controls, in order."""
        return [row.control for row in self._rows]

    def _make_rows(self) -> None:
        self._cache.setRange(0, LARGEST_ERROR)
        self._cache.setSingleStep(0.01)
        self._cache.setSpecialValueText(self.tr("Off"))
        self._budget = OptionRow(self.tr("Budget"), BudgetField(self._state.optimise, self.tr("Budget of the job")))
        self._attention_row = OptionRow(self.tr("Attention"), self._attention)
        self._weights_row = OptionRow(self.tr("Weights"), self._weights)
        self._rounds_row = OptionRow("", self._rounds)
        self._blocks_row = OptionRow(self.tr("Blocks on the card"), self._blocks)
        self._tokens_row = OptionRow(self.tr("Tokens at a time"), self._tokens)
        self._compile_row = OptionRow("", self._compile)
        self._joint_row = OptionRow("", self._joint)
        self._cache_row = OptionRow(self.tr("Step cache"), self._cache)
        self._solver_row = OptionRow(self.tr("Solver"), self._solver)
        self._recipe_row = OptionRow(self.tr("Distilled model"), self._recipe)
        self._rows = (
            self._budget, self._attention_row, self._weights_row, self._rounds_row, self._blocks_row, self._tokens_row,
            self._joint_row, self._compile_row, self._cache_row, self._recipe_row, self._solver_row,
        )  # fmt: skip

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for row in self._rows:
            column.addWidget(row)

    def _connect(self) -> None:
        self._attention.option_chosen.connect(self._take_attention)
        self._weights.option_chosen.connect(self._library.choose_weights)
        self._solver.option_chosen.connect(self._take_solver)
        self._recipe.option_chosen.connect(self._take_recipe)
        for number in (self._blocks, self._tokens, self._cache):
            number.valueChanged.connect(self._take_sampling)
        for switch in (self._compile, self._joint, self._rounds):
            switch.clicked.connect(self._take_sampling)
        self._card.changed.connect(self.refresh)  # which says so of all that is shown here
        self._library.changed.connect(self.refresh)

    @Slot()
    def refresh(self) -> None:
        """Show the states."""
        values, proposed = self._state.optimise.values, self._card.proposed
        sampling = values.sampling
        self._show_attention(proposed)
        self._show_weights(proposed)
        self._show_blocks(proposed)
        _show(self._tokens, sampling.chunk_tokens or 0)
        _show(self._cache, sampling.step_cache)
        self._cache_row.say(self.tr("Takes a step from the one before where the error stays below this; inexact."))
        self._rounds.setChecked(values.rounds_input)
        self._rounds_row.say(self.tr("Faster where weights are quantised and the card multiplies them so; less exact."))
        self._joint.setChecked(sampling.joint_guidance)
        self._joint_row.say(self.tr("Faster for small videos, and takes more memory."))
        self._show_compile()
        self._show_solver()

    def _show_attention(self, proposed: PresetSettings | None) -> None:
        chosen = self._state.optimise.values.sampling.attention
        states = self._state.outlook.backends or (BackendState(AttentionBackend.SDPA, is_available=True),)
        options = [
            Option(backend_name(each.backend), each.backend, unavailable_text(each), each.is_available)
            for each in states
        ]
        self._attention.show_options(options, chosen)
        why = next((unavailable_text(each) for each in states if each.backend is chosen), "")
        is_other = proposed is not None and proposed.attention is not chosen
        self._attention_row.say(why, preset_note(backend_name(proposed.attention)) if proposed and is_other else "")

    def _show_weights(self, proposed: PresetSettings | None) -> None:
        forms, chosen = self._library.forms(), self._state.use.weights
        options = [Option(form_text(form, size), form) for form, size in forms.items()]
        self._weights.show_options(options or [Option(self.tr("As stored"), WeightForm.STORED)], chosen)
        self._weights.setEnabled(len(forms) > 1)
        is_other = proposed is not None and proposed.weights is not chosen
        self._weights_row.say(preset_note(weights_name(proposed.weights)) if proposed and is_other else "")

    def _show_blocks(self, proposed: PresetSettings | None) -> None:
        chosen, blocks = self._state.optimise.values.sampling.resident_blocks, self._state.outlook.blocks
        _show(self._blocks, AUTOMATIC if chosen is None else chosen)
        note = "" if self._card.gave_way is None else gave_way_text(self._card.gave_way)
        is_other = proposed is not None and proposed.resident_blocks not in (None, chosen)
        if proposed is not None and is_other and not note:
            note = preset_note(residents_text(proposed.resident_blocks, blocks))
        self._blocks_row.say(note)

    def _show_compile(self) -> None:
        reason = self._state.outlook.compile_reason
        self._compile.setChecked(self._state.optimise.values.sampling.compile_blocks)
        self._compile.setEnabled(reason == "" or self._compile.isChecked())
        self._compile_row.say(
            compile_text(reason or "") or self.tr("The first step takes minutes longer, later ones less.")
        )

    def _show_solver(self) -> None:
        optimise = self._state.optimise
        recipes = [Option(recipe_name(each), each.name, recipe_note(each)) for each in distilled_recipes()]
        self._recipe.show_options([Option(self.tr("No, all steps"), None), *recipes], optimise.values.recipe)
        self._recipe_row.say(recipe_note(optimise.recipe))
        self._solver.show_options([Option(solver_name(solver), solver) for solver in Solver], optimise.solver)
        self._solver.setEnabled(optimise.recipe is None)

    @Slot(object)
    def _take_attention(self, attention: AttentionBackend) -> None:
        optimise = self._state.optimise
        optimise.change_sampling(replace(optimise.values.sampling, attention=attention))

    @Slot(object)
    def _take_solver(self, solver: Solver) -> None:
        self._state.optimise.change(replace(self._state.optimise.values, solver=solver))

    @Slot(object)
    def _take_recipe(self, recipe: str | None) -> None:
        self._state.optimise.change(replace(self._state.optimise.values, recipe=recipe))

    @Slot()
    def _take_sampling(self) -> None:
        optimise, blocks = self._state.optimise, self._blocks.value()
        sampling = replace(
            optimise.values.sampling,
            resident_blocks=None if blocks == AUTOMATIC else blocks,
            chunk_tokens=self._tokens.value() or None,
            step_cache=round(self._cache.value(), 2),
            compile_blocks=self._compile.isChecked(),
            joint_guidance=self._joint.isChecked(),
        )
        rounds = self._rounds.isChecked()
        optimise.change_sampling(sampling)
        optimise.change(replace(optimise.values, rounds_input=rounds))


def _automatic(name: str, least: int, most: int, step: int) -> QSpinBox:
    field = number_field(QSpinBox(), name)
    field.setRange(least, most)
    field.setSingleStep(step)
    field.setSpecialValueText(field.tr("Automatic"))
    return field


def _show(field: QSpinBox | QDoubleSpinBox, value: float) -> None:
    field.blockSignals(True)
    if isinstance(field, QSpinBox):
        field.setValue(int(value))
    else:
        field.setValue(value)
    field.blockSignals(False)
