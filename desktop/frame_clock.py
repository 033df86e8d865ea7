"""The beat of the picture: sixty times a second on the UI thread it takes the canvas's notes and moves the loop."""

from PySide6.QtCore import QElapsedTimer, QObject, Qt, QTimer, Signal, Slot

from desktop.state.canvas_images import CanvasImages
from desktop.state.playback import Playback

INTERVAL_MS = 16


class FrameClock(QObject):
    """Drives `CanvasImages` and `Playback`; everything at high rate goes through here and not through signals."""

    ticked = Signal(float)  # seconds since the last tick

    def __init__(self, images: CanvasImages, playback: Playback, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._images = images
        self._playback = playback
        self._elapsed = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self._tick)
        images.opened.connect(self._open_clip)
        images.closed.connect(playback.close_clip)

    def start(self) -> None:
        """Begin ticking."""
        self._elapsed.start()
        self._timer.start()

    def stop(self) -> None:
        """End ticking."""
        self._timer.stop()

    @Slot()
    def _tick(self) -> None:
        seconds = self._elapsed.restart() / 1000
        self._images.refresh()
        self._playback.advance(seconds)
        self.ticked.emit(seconds)

    @Slot(int)
    def _open_clip(self, frames: int) -> None:
        self._playback.open_clip(frames)
