"""The window: the side panel, the picture, what happens to it, and the gauge; UI thread."""

from PySide6.QtCore import QByteArray, QSize, Qt, Signal, Slot
from PySide6.QtGui import (
    QCloseEvent,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QKeyEvent,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QAbstractButton, QHBoxLayout, QLineEdit, QMainWindow, QVBoxLayout, QWidget

from desktop.icons import icon
from desktop.state.canvas_images import CanvasImages
from desktop.state.card import CardState
from desktop.state.interrupted import InterruptedVideos
from desktop.state.job import JobState, Phase
from desktop.state.latents_files import local_files
from desktop.state.library import Library
from desktop.state.memory import MemoryState
from desktop.state.playback import Playback
from desktop.state.prompt import PromptState
from desktop.state.thumbnails import Thumbnails
from desktop.state.videos import VideoRow
from desktop.theme import Theme
from desktop.views.drop_hints import DropHints, accept_copy
from desktop.views.error_bar import ErrorBar
from desktop.views.gauge import Gauge
from desktop.views.interrupted_bar import InterruptedBar
from desktop.views.model_page import ModelPage
from desktop.views.optimise_page import OptimisePage
from desktop.views.page import Page
from desktop.views.player_bar import PlayerBar
from desktop.views.preview import PreviewWidget
from desktop.views.progress_strip import ProgressStrip
from desktop.views.prompt_panel import PromptPanel
from desktop.words import first_picture_text

FIRST_SIZE = QSize(1280, 800)
SMALLEST_SIZE = QSize(840, 540)  # all views fit at once, a failure with its technical text included
FRAME = QSize(16, 40)  # about what the system puts around a window, which nobody knows before it is shown
ROOM_FOR_HISTORY = 1140  # width of the window below which the gauge's curve gives way
ENTER_KEYS = (Qt.Key.Key_Return, Qt.Key.Key_Enter)


class MainWindow(QMainWindow):
    """Puts the views together. It closes only when `may_close` was set, and asks by signal otherwise."""

    first_painted = Signal()
    close_requested = Signal()
    files_dropped = Signal(list)  # of Path, at least one

    def __init__(
        self,
        prompt: PromptState,
        job: JobState,
        videos: VideoRow,
        memory: MemoryState,
        images: CanvasImages,
        playback: Playback,
        theme: Theme,
        interrupted: InterruptedVideos,
        library: Library,
        card: CardState,
        thumbnails: Thumbnails,
    ) -> None:
        super().__init__()
        self._theme, self._job, self._playback = theme, job, playback
        self._was_painted = False
        self.may_close = False
        self.panel = PromptPanel(prompt, job, library, thumbnails, theme.colours)
        self.models = ModelPage(library, theme.colours)
        self.optimise = OptimisePage(prompt, library, card, theme.colours)
        self._openers: dict[Page, QWidget] = {
            self.models: self.panel.model.button,
            self.optimise: self.panel.optimise.button,
        }
        self.open_page: Page | None = None  # that has the place of the picture
        self.error_bar = ErrorBar(theme.colours)
        self.interrupted_bar = InterruptedBar(interrupted, job)
        self.preview = PreviewWidget(images, playback, theme.colours)
        self.drop_hints = DropHints((self.preview, *self._openers), prompt.start, theme.colours)
        self.player = PlayerBar(playback, theme.colours)
        self.progress = ProgressStrip(job, videos, theme.colours)
        self.gauge = Gauge(memory, job, prompt, theme.colours)
        self.setWindowTitle("Tessera")
        self.setWindowIcon(icon("app"))
        self.fit_into(self.screen().availableSize())
        self._lay_out()
        self._take_drops()
        theme.colours_changed.connect(self.paint_in_theme)
        job.phase_changed.connect(self._show_phase)
        self.error_bar.visibility_changed.connect(self._make_room)
        self.interrupted_bar.visibility_changed.connect(self._make_room)
        self.panel.model.button.clicked.connect(self.open_models)
        self.panel.optimise.button.clicked.connect(self.open_optimise)
        for page in self._openers:
            page.close_requested.connect(self.close_page)
        self.paint_in_theme()
        self._show_phase(job.phase)

    def fit_into(self, screen: QSize) -> None:
        """Take the first size and the smallest one, or as much of them as a screen with this much room has."""
        room = screen - FRAME
        self.setMinimumSize(SMALLEST_SIZE.boundedTo(room))
        self.resize(FIRST_SIZE.boundedTo(room))

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
        for page in self._openers:
            page.paint_in(colours)
        self.drop_hints.paint_in(colours)
        self.player.paint_in(colours)
        self.progress.paint_in(colours)
        self.gauge.paint_in(colours)

    @Slot()
    def open_models(self) -> None:
        """Show the page of models."""
        self._open(self.models)

    @Slot()
    def open_optimise(self) -> None:
        """Show the page of memory and speed."""
        self._open(self.optimise)

    @Slot()
    def close_page(self) -> None:
        """Show the picture again; the focus goes back to where the page was opened."""
        page, self.open_page = self.open_page, None
        had_focus = page is not None and page.isAncestorOf(self.focusWidget() or self)
        self._make_room()
        if page is not None and had_focus:
            self._openers[page].setFocus()

    def _open(self, page: Page) -> None:
        self.open_page = page
        self._make_room()
        page.take_focus()

    def _lay_out(self) -> None:
        main = QVBoxLayout()
        main.setContentsMargins(16, 16, 16, 16)
        main.setSpacing(12)
        main.addWidget(self.error_bar)
        main.addWidget(self.interrupted_bar)
        for page in self._openers:
            main.addWidget(page, 1)
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

    def _take_drops(self) -> None:
        self.setAcceptDrops(True)
        for field in self.findChildren(QLineEdit):  # those of the number boxes, which no path of a file makes sense in
            field.setAcceptDrops(False)

    @Slot()
    def _make_room(self) -> None:
        """A page takes the place of the picture; on a low screen a message does, until it has been read."""
        self.interrupted_bar.make_way(self.error_bar.isVisibleTo(self))
        has_message = self.error_bar.isVisibleTo(self) or self.interrupted_bar.isVisibleTo(self)
        is_crowded = has_message and self.height() < SMALLEST_SIZE.height()
        for page in self._openers:
            page.setVisible(page is self.open_page and not is_crowded)
        for view in (self.preview, self.player, self.progress):
            view.setVisible(self.open_page is None and not is_crowded)

    @Slot(object)
    def _show_phase(self, phase: Phase) -> None:
        focused = self.focusWidget()
        self.panel.show_phase(phase)
        if self._job.is_busy:
            self.error_bar.hide()
            self.close_page()
            self.preview.show_text(first_picture_text(self._job.command), waiting=True)
        else:
            self.preview.show_text(self.tr("Describe a video, then press Generate."), waiting=False)
        if focused is not None and not (focused.isVisibleTo(self) and focused.isEnabled()):
            # Qt would go on to the next button, and a second press of the key would cancel what the first began.
            self.preview.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """What the focused widget did not use comes here: a shortcut would take Space away from its buttons."""
        focused = self.focusWidget()
        if event.isAutoRepeat():
            super().keyPressEvent(event)
        elif event.key() in ENTER_KEYS and isinstance(focused, QAbstractButton):
            focused.click()
        elif event.key() == Qt.Key.Key_Space:
            self._playback.toggle()
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        files = local_files(event.mimeData())
        if not files or self._job.is_busy or not event.possibleActions() & Qt.DropAction.CopyAction:
            event.ignore()
            return
        self.drop_hints.show_for(files)
        accept_copy(event)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.drop_hints.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self.drop_hints.hide()
        accept_copy(event)
        self.files_dropped.emit(local_files(event.mimeData()))

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
        self._make_room()
