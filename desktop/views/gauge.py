"""The gauge: how much memory there is, who has it, what the job promised and what it took; UI thread."""

from PySide6.QtCore import Slot
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout

from desktop.decode_words import too_small_text
from desktop.optimise_words import stage_peaks_text
from desktop.state.job import JobState
from desktop.state.memory import MemorySample, MemoryState
from desktop.state.prompt import PromptState
from desktop.theme import Colours
from desktop.views.budget_handle import BudgetMark
from desktop.views.elided_label import ElidedLabel
from desktop.views.gauge_bar import GaugeBar
from desktop.views.history_curve import HistoryCurve
from desktop.views.legend import LegendEntry, MarkKind
from desktop.words import byte_text, no_card_text, stage_name


class Gauge(QFrame):
    """Always visible; four times a second it shows the latest reading."""

    def __init__(self, memory: MemoryState, job: JobState, prompt: PromptState, colours: Colours) -> None:
        super().__init__()
        self.setObjectName("card")
        self._memory, self._job, self._colours = memory, job, colours
        self._outlook, self._optimise = prompt.outlook, prompt.optimise
        self._title, self._source = QLabel(), ElidedLabel()
        self._title.setProperty("role", "heading")
        self._source.setProperty("role", "dim")
        self._used, self._total = QLabel(), QLabel()
        self._used.setProperty("role", "figure")
        self._total.setProperty("role", "dim")
        self._bar = GaugeBar(memory, colours)
        self._curve = HistoryCurve(memory, colours)
        self._others, self._ours, self._reserved = (LegendEntry(MarkKind.AREA) for _ in range(3))
        self._predicted, self._budget = LegendEntry(MarkKind.DASHED), LegendEntry(MarkKind.SOLID)
        self._peak = LegendEntry(MarkKind.NONE)
        self._lay_out()
        memory.sample_changed.connect(self.refresh)
        job.progress_changed.connect(self.refresh)
        prompt.optimise.changed.connect(self.refresh)
        prompt.outlook.changed.connect(self.refresh)
        self._bar.budget_chosen.connect(prompt.optimise.set_budget)
        self.refresh()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self._bar.paint_in(colours)
        self._curve.paint_in(colours)
        self.refresh()

    def show_history(self, visible: bool) -> None:
        """The curve gives way first when the window is small."""
        self._curve.setVisible(visible)

    def _lay_out(self) -> None:
        numbers = QVBoxLayout()
        numbers.setSpacing(4)
        numbers.addLayout(self._headline())
        numbers.addWidget(self._bar)
        numbers.addLayout(_legend(self._ours, self._reserved, self._others))
        numbers.addLayout(_legend(self._predicted, self._budget, self._peak))
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 12, 16, 12)
        row.setSpacing(20)
        row.addLayout(numbers, 1)
        row.addWidget(self._curve)

    def _headline(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self._title)
        row.addWidget(self._source, 1)
        row.addWidget(self._used)
        row.addWidget(self._total)
        return row

    @Slot()
    def refresh(self) -> None:
        """Show the latest reading, and the promises of the running job or of the plan for the next one."""
        mark = self._mark()
        self._bar.show_promises(self._predicted_level(), mark)
        self._curve.show_prediction(self._job.predicted_bytes)
        self._show_promises(mark)
        if self._memory.sample is not None:
            self._show_sample(self._memory.sample)

    def _show_sample(self, sample: MemorySample) -> None:
        on_card = sample.card is not None
        self._title.setText(self.tr("Video memory") if on_card else self.tr("System memory"))
        self._source.show_text(sample.card or (no_card_text(sample.reason) if sample.reason else ""))
        self._used.setText(byte_text(sample.used_bytes))
        self._total.setText(self.tr("of {total}").format(total=byte_text(sample.total_bytes)))
        ours = sample.ours_bytes if sample.allocated_bytes is None else sample.allocated_bytes
        name = self.tr("Tessera") if sample.allocated_bytes is None else self.tr("Tessera, in use")
        self._ours.show_figure(name, byte_text(ours), self._bar.colour_of("allocated"))
        self._show_reserved(sample)
        others = self.tr("Other programs") if ours is not None else self.tr("In use")
        self._others.show_figure(others, byte_text(sample.others_bytes), self._bar.colour_of("others"))

    def _show_reserved(self, sample: MemorySample) -> None:
        if sample.reserved_bytes is None or sample.allocated_bytes is None:
            self._reserved.hide()
            return
        idle = max(0, sample.known_ours_bytes - sample.allocated_bytes)
        self._reserved.show_figure(self.tr("in reserve"), byte_text(idle), self._bar.colour_of("reserved"))

    def _mark(self) -> BudgetMark | None:
        """The budget of the running stage, or the one for the next job."""
        if self._job.is_busy:
            budget = self._job.budget_bytes
            return None if budget is None else BudgetMark(budget, ground_bytes=0, is_fixed=True)
        own = self._optimise.values.budget_bytes
        budget = self._outlook.budget_bytes if own is None else own
        if budget is None:
            return None
        is_too_small = self._outlook.is_over_budget
        return BudgetMark(budget, self._ground_bytes(), is_own=own is not None, is_too_small=is_too_small)

    def _ground_bytes(self) -> int:
        """What a stage would find held; before the engine has said it, what is held now."""
        if self._outlook.ground_bytes is not None:
            return self._outlook.ground_bytes
        return (self._memory.sample.live_bytes or 0) if self._memory.sample is not None else 0

    def _predicted_bytes(self) -> int | None:
        """The peak of the running stage, or the highest of the next job's stages."""
        if self._job.is_busy:
            return self._job.predicted_bytes
        highest = self._outlook.highest
        return None if highest is None else highest.predicted_peak_bytes

    def _predicted_level(self) -> int | None:
        """Where the predicted peak stands in the bar."""
        predicted = self._predicted_bytes()
        return predicted if predicted is None or self._job.is_busy else self._ground_bytes() + predicted

    def _show_promises(self, mark: BudgetMark | None) -> None:
        line = QColor(self._colours.text)
        self._predicted.show_figure(self._predicted_name(), _or_dash(self._predicted_bytes()), line)
        self._predicted.setToolTip(self._promise())
        is_too_small = mark is not None and mark.is_too_small
        self._predicted.setVisible(not is_too_small)  # there is nothing to predict, and the words need the room
        self._budget.setVisible(mark is not None)
        if mark is not None:
            self._show_budget(mark)
        peak = self._memory.peak_bytes if self._job.stages else None
        self._peak.show_figure(self.tr("Peak so far"), _or_dash(peak), line)
        self._peak.setVisible(peak is not None)

    def _show_budget(self, mark: BudgetMark) -> None:
        line = QColor(self._colours.danger if mark.is_too_small else self._colours.text)
        name = self.tr("Budget too small") if mark.is_too_small else self.tr("Budget")
        smallest = self._outlook.smallest_bytes
        figure = too_small_text(smallest) if mark.is_too_small else byte_text(mark.budget_bytes)
        self._budget.show_figure(name, figure, line, is_problem=mark.is_too_small)

    def _predicted_name(self) -> str:
        highest = None if self._job.is_busy else self._outlook.highest
        if highest is None:
            return self.tr("Predicted peak")
        return self.tr("{stage} needs").format(stage=stage_name(highest.stage))

    def _promise(self) -> str:
        """Of what the prediction speaks."""
        if not self._job.is_busy:
            peaks = stage_peaks_text(self._outlook)
            return self.tr("The most that the next video will take beside what is in use.") + f"\n{peaks}".rstrip()
        if self._job.predicted_bytes is None or self._job.stage is None:
            return self.tr("Before each stage Tessera says how much memory it will take.")
        return self.tr("The most that this stage will take: {stage}").format(stage=stage_name(self._job.stage))


def _legend(*entries: LegendEntry) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(12)
    for entry in entries:
        row.addWidget(entry)
    row.addStretch(1)
    return row


def _or_dash(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else byte_text(size_bytes)
