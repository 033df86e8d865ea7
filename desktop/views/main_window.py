"""The window: the side panel, the picture, what happens to it, and the gauge; UI thread."""

from PySide6.QtCore import QByteArray, Signal, Slot
from PySide6.QtGui import QCloseEvent, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QMainWindow, QVBoxLayout, QWidget

from desktop.icons import icon
from desktop.state.canvas_images import CanvasImages
from desktop.state.job import JobState, Phase
from desktop.state.memory import MemoryState
from desktop.state.playback import Playback
from desktop.state.prompt import PromptState
from desktop.theme import Theme
from desktop.views.error_bar import ErrorBar
from desktop.views.gauge import Gauge
from desktop.views.player_bar import PlayerBar
from desktop.views.preview import PreviewWidget
from desktop.views.progress_strip import ProgressStrip
from desktop.views.prompt_panel import PromptPanel

FIRST_SIZE = (1280, 800)
SMALLEST_SIZE = (800, 500)
ROOM_FOR_HISTORY = 900  # width of the window below which the gauge's curve gives way


class MainWindow(QMainWindow):
    """Puts the views together. It closes only when `may_close` was set, and asks by signal otherwise."""

    first_painted = Signal()
    close_requested = Signal()

    def __init__(
        self,
        prompt: PromptState,
        job: JobState,
        memory: MemoryState,
        images: CanvasImages,
        playback: Playback,
        theme: Theme,
    ) -> None:
        super().__init__()
        self._theme, self._job = theme, job
        self._was_painted = False
        self.may_close = False
        self.panel = PromptPanel(prompt, theme.colours)
        self.error_bar = ErrorBar(theme.colours)
        self.preview = PreviewWidget(images, playback, theme.colours)
        self.player = PlayerBar(playback, theme.colours)
        self.progress = ProgressStrip(job, theme.colours)
        self.gauge = Gauge(memory, job, theme.colours)
        self.setWindowTitle("Tessera")
        self.setWindowIcon(icon("app"))
        self.setMinimumSize(*SMALLEST_SIZE)
        self.resize(*FIRST_SIZE)
        self._lay_out()
        theme.colours_changed.connect(self.paint_in_theme)
        job.phase_changed.connect(self._show_phase)
        self.paint_in_theme()
        self._show_phase(job.phase)

    def restore_geometry(self, geometry: QByteArray) -> None:
        """Size and place of the last time, if there was one and the screen is still there."""
        if not geometry.isEmpty():
            self.restoreGeometry(geometry)

    @Slot()
    def paint_in_theme(self) -> None:
        """Hand the theme's colours to everything that paints itself."""
        colours = self._theme.colours
        self.panel.paint_in(colours)
        self.error_bar.paint_in(colours)
        self.preview.paint_in(colours)
        self.player.paint_in(colours)
        self.progress.paint_in(colours)
        self.gauge.paint_in(colours)

    def _lay_out(self) -> None:
        main = QVBoxLayout()
        main.setContentsMargins(16, 16, 16, 16)
        main.setSpacing(12)
        main.addWidget(self.error_bar)
        main.addWidget(self.preview, 1)
        main.addWidget(self.player)
        main.addWidget(self.progress)
        main.addSpacing(4)
        main.addWidget(self.gauge)
        centre = QWidget()
        row = QHBoxLayout(centre)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.panel)
        row.addLayout(main, 1)
        self.setCentralWidget(centre)

    @Slot(object)
    def _show_phase(self, phase: Phase) -> None:
        self.panel.show_phase(phase)
        if self._job.is_busy:
            self.error_bar.hide()
            self.preview.show_text(self.tr("The first picture comes when sampling begins."), waiting=True)
        else:
            self.preview.show_text(self.tr("Describe a video, then press Generate."), waiting=False)

    def closeEvent(self, event: QCloseEvent) -> None:
        if self.may_close:
            event.accept()
        else:
            event.ignore()
            self.close_requested.emit()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._was_painted:
            self._was_painted = True
            self.first_painted.emit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.gauge.show_history(event.size().width() >= ROOM_FOR_HISTORY)
