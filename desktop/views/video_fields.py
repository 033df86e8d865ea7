"""The numbers of the video: size, frames, steps, guidance, seed and how many; UI thread."""

from dataclasses import replace

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QSpinBox, QVBoxLayout, QWidget

from desktop.state.prompt import MOST_VIDEOS, PromptState
from desktop.theme import Colours
from desktop.views.budget_field import BudgetField
from desktop.views.decode_fields import field_row
from desktop.views.number_field import number_field
from desktop.views.seed_row import SeedRow
from desktop.views.size_row import SizeRow
from desktop.views.slider_row import LABEL_WIDTH, SliderRow
from desktop.views.wrapped_label import WrappedLabel
from engine.errors import EngineError

MOST_FRAMES = 241


class VideoFields(QWidget):
    """Shows `PromptState` and writes what the person edits back into it."""

    def __init__(self, state: PromptState) -> None:
        super().__init__()
        self._state = state
        defaults = state.defaults
        self._size = SizeRow(defaults.sizes, defaults.size_multiple)
        self._size_note = WrappedLabel()
        self._size_note.setObjectName("sizeNote")
        self._size_note.setProperty("role", "small")
        self._size_note.setContentsMargins(LABEL_WIDTH + 8, 0, 0, 0)
        self._frames = SliderRow(self.tr("Frames"), 1, max(MOST_FRAMES, defaults.frames), 4)
        self._steps = SliderRow(self.tr("Steps"), 1, 100, 1)
        self._guidance = SliderRow(self.tr("Guidance"), 0, 15, 0.5, decimals=1)
        self._guidance_low = SliderRow(self.tr("Low noise"), 0, 15, 0.5, decimals=1)
        self._guidance_low.set_hint(self.tr("Guidance of the second expert, which ends the video."))
        self._seed = SeedRow()
        self._videos = number_field(QSpinBox(), self.tr("Number of videos"))
        self._videos.setRange(1, MOST_VIDEOS)
        self._videos.setToolTip(self.tr("Made one after the other, each with the seed that follows."))
        self._lay_out()
        self._connect()
        self.refresh()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._seed.paint_in(colours)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for row in (self._size, self._size_note, self._frames, self._steps, self._guidance, self._guidance_low):
            column.addWidget(row)
        column.addWidget(self._seed)
        column.addLayout(field_row(self.tr("Videos"), self._videos))
        budget = BudgetField(self._state.optimise, self.tr("Memory budget"))
        column.addLayout(field_row(self.tr("Budget"), budget))

    def _connect(self) -> None:
        self._size.size_edited.connect(self._take_size)
        self._frames.value_edited.connect(self._take_frames)
        self._steps.value_edited.connect(self._take_steps)
        self._guidance.value_edited.connect(self._take_guidance)
        self._guidance_low.value_edited.connect(self._take_guidance_low)
        self._seed.seed_edited.connect(self._take_seed)
        self._seed.reroll_requested.connect(self._state.reroll_seed)
        self._videos.valueChanged.connect(self._take_videos)
        self._state.values_changed.connect(self.refresh)
        self._state.model_changed.connect(self._show_model)
        self._state.optimise.changed.connect(self._show_recipe)

    @Slot()
    def refresh(self) -> None:
        """Show the state."""
        values = self._state.values
        self._size.show_size(values.width, values.height)
        self._show_size_note()
        self._frames.show_value(values.frames)
        self._frames.set_hint(self._frames_hint())
        self._seed.show_seed(values.seed)
        self._videos.blockSignals(True)
        self._videos.setValue(values.videos)
        self._videos.blockSignals(False)
        self._show_recipe()

    @Slot()
    def _show_model(self) -> None:
        """Offer the sizes of the model in use."""
        self._size.show_sizes(self._state.defaults.sizes, self._state.defaults.size_multiple)
        self.refresh()

    @Slot()
    def _show_recipe(self) -> None:
        """A distilled recipe says itself how many steps there are and how they are guided."""
        values, recipe = self._state.values, self._state.optimise.recipe
        self._steps.show_value(self._state.steps)
        self._guidance.show_value(values.guidance if recipe is None else recipe.guidance)
        self._guidance_low.show_value((values.guidance_low or 0.0) if recipe is None else recipe.guidance)
        self._guidance_low.setVisible(values.guidance_low is not None)
        why = "" if recipe is None else self.tr("As the distilled recipe has it, chosen under Memory and speed.")
        for row in (self._steps, self._guidance):
            row.setEnabled(recipe is None)
            row.set_hint(why)
        self._guidance_low.setEnabled(recipe is None)

    def _show_size_note(self) -> None:
        """Say what is sampled where that is not what was asked for."""
        values = self._state.values
        try:
            sampled = self._state.sampled_size
        except EngineError:
            sampled = values.width, values.height  # what is wrong is told at the foot
        is_cut = sampled != (values.width, values.height)
        self._size_note.setVisible(is_cut)
        if is_cut:
            text = self.tr("Made as {width} × {height}, then cut to {wanted_width} × {wanted_height}.")
            self._size_note.show_text(
                text.format(width=sampled[0], height=sampled[1], wanted_width=values.width, wanted_height=values.height)
            )

    def _frames_hint(self) -> str:
        if self._state.values.frames == 1:
            return self.tr("A still picture")
        return self.tr("{seconds} seconds of video").format(seconds=f"{self._state.seconds:.1f}")

    @Slot(int, int)
    def _take_size(self, width: int, height: int) -> None:
        self._state.change(replace(self._state.values, width=width, height=height))

    @Slot(float)
    def _take_frames(self, frames: float) -> None:
        self._state.change(replace(self._state.values, frames=int(frames)))

    @Slot(float)
    def _take_steps(self, steps: float) -> None:
        self._state.change(replace(self._state.values, steps=int(steps)))

    @Slot(float)
    def _take_guidance(self, guidance: float) -> None:
        self._state.change(replace(self._state.values, guidance=guidance))

    @Slot(float)
    def _take_guidance_low(self, guidance: float) -> None:
        self._state.change(replace(self._state.values, guidance_low=guidance))

    @Slot(object)
    def _take_seed(self, seed: int) -> None:
        self._state.change(replace(self._state.values, seed=seed))

    @Slot(int)
    def _take_videos(self, videos: int) -> None:
        self._state.change(replace(self._state.values, videos=videos))
