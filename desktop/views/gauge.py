"""The gauge: how much memory there is, who has it, what the job promised and what it took; UI thread."""

from PySide6.QtCore import Slot
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout

from desktop.state.job import JobState
from desktop.state.memory import MemorySample, MemoryState
from desktop.theme import Colours
from desktop.views.elided_label import ElidedLabel
from desktop.views.gauge_bar import GaugeBar
from desktop.views.history_curve import HistoryCurve
from desktop.views.legend import LegendEntry, MarkKind
from desktop.words import byte_text, no_card_text, stage_name


class Gauge(QFrame):
    """Always visible; four times a second it shows the latest reading."""

    def __init__(self, memory: MemoryState, job: JobState, colours: Colours) -> None:
        super().__init__()
        self.setObjectName("card")
        self._memory, self._job, self._colours = memory, job, colours
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
        """Show the latest reading and the running job's promises."""
        predicted, budget = self._job.predicted_bytes, self._job.budget_bytes
        self._bar.show_promises(predicted, budget)
        self._curve.show_prediction(predicted)
        self._show_promises(predicted, budget)
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

    def _show_promises(self, predicted: int | None, budget: int | None) -> None:
        line = QColor(self._colours.text)
        self._predicted.show_figure(self.tr("Predicted peak"), _or_dash(predicted), line)
        self._predicted.setToolTip(self._promise())
        self._budget.setVisible(budget is not None)
        if budget is not None:
            self._budget.show_figure(self.tr("Budget"), byte_text(budget), line)
        peak = self._memory.peak_bytes if self._job.stages else None
        self._peak.show_figure(self.tr("Peak so far"), _or_dash(peak), line)

    def _promise(self) -> str:
        """Of which stage the prediction speaks."""
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
