"""The card that this computer has and what is proposed for it; lives on the UI thread."""

from dataclasses import replace

from PySide6.QtCore import QObject, Signal, Slot

from desktop.state.library import Library
from desktop.state.memory import MemoryState
from desktop.state.prompt import PromptState
from engine.card_presets import CardPreset, PresetSettings, card_preset, settings_of
from engine.events import Stage
from engine.model_choice import WeightForm


class CardState(QObject):
    """Finds the preset for the card that the gauge reads, and says what it comes to with the chosen model.

    A preset is used only when the person asks for it, for some of what it proposes costs quality. Blocks that stay on
    the card are then given up by themselves where they do not fit.
    """

    changed = Signal()

    def __init__(
        self, memory: MemoryState, prompt: PromptState, library: Library, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._memory, self._prompt, self._library = memory, prompt, library
        self.name: str | None = None
        self.total_bytes: int | None = None
        self.is_known = False  # nothing is, before the first reading
        self._gave_way: int | None = None
        memory.sample_changed.connect(self._look)
        prompt.outlook.changed.connect(self._take_outlook)
        prompt.optimise.changed.connect(self.changed)
        prompt.values_changed.connect(self.changed)
        prompt.model_changed.connect(self.changed)

    @property
    def preset(self) -> CardPreset | None:
        """The preset for this card; None before the card is known."""
        return card_preset(self.total_bytes) if self.is_known else None

    @property
    def proposed(self) -> PresetSettings | None:
        """What the preset comes to here; None before the engine has told what it can do."""
        preset, outlook = self.preset, self._prompt.outlook
        if preset is None or not outlook.backends:
            return None
        forms = self._library.forms() or (WeightForm.STORED,)
        return settings_of(preset, outlook.backends, self._prompt.defaults, blocks=outlook.blocks, forms=forms)

    @property
    def gave_way(self) -> int | None:
        """Blocks that the preset wanted on the card and that did not fit, so that the planner chooses how many."""
        values = self._prompt.optimise.values
        is_left = values.residents_of_preset and values.sampling.resident_blocks is None
        return self._gave_way if is_left else None

    @property
    def is_used(self) -> bool:
        """Whether everything is as the preset proposes it."""
        proposed, values = self.proposed, self._prompt.optimise.values
        if proposed is None:
            return False
        residents = (values.sampling.resident_blocks, None if self.gave_way is not None else proposed.resident_blocks)
        return (
            values.sampling.attention is proposed.attention
            and residents[0] == residents[1]
            and self._prompt.use.weights is proposed.weights
            and self._clip == (*self._turned(proposed), proposed.frames)
        )

    @Slot()
    def use(self) -> None:
        """Take all that the preset proposes; what it says nothing about stays. A tall picture stays tall."""
        proposed, optimise = self.proposed, self._prompt.optimise
        if proposed is None:
            return
        self._gave_way = None
        width, height = self._turned(proposed)
        sampling = replace(
            optimise.values.sampling, attention=proposed.attention, resident_blocks=proposed.resident_blocks
        )
        if self._library.forms():
            self._library.choose_weights(proposed.weights)
        values = self._prompt.values
        self._prompt.change(replace(values, width=width, height=height, frames=proposed.frames))
        optimise.change(replace(optimise.values, sampling=sampling, residents_of_preset=True))

    @property
    def _clip(self) -> tuple[int, int, int]:
        values = self._prompt.values
        return values.width, values.height, values.frames

    def _turned(self, proposed: PresetSettings) -> tuple[int, int]:
        size = proposed.width, proposed.height
        is_tall = self._prompt.values.height > self._prompt.values.width
        return (min(size), max(size)) if is_tall else size

    @Slot()
    def _look(self) -> None:
        sample = self._memory.sample
        if sample is None:
            return
        total = None if sample.card is None else sample.total_bytes
        if (self.is_known, self.name, self.total_bytes) != (True, sample.card, total):
            self.is_known, self.name, self.total_bytes = True, sample.card, total
            self.changed.emit()

    @Slot()
    def _take_outlook(self) -> None:
        self._give_way()
        self.changed.emit()

    def _give_way(self) -> None:
        """Leave the blocks to the planner where those of the preset do not fit; what was chosen by hand stays."""
        optimise, outlook = self._prompt.optimise, self._prompt.outlook
        values, sampling = optimise.values, outlook.stage(Stage.SAMPLE)
        residents = values.sampling.resident_blocks
        if not values.residents_of_preset or residents is None:
            return
        fits = outlook.refusal is None and (sampling is None or sampling.fits)
        if (not fits and outlook.is_over_budget) or outlook.refused_setting == "resident_blocks":
            self._gave_way = residents
            optimise.change(replace(values, sampling=replace(values.sampling, resident_blocks=None)))
