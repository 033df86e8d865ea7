"""Which frame of the loop is shown, at the pace of the video; lives on the UI thread and knows no widgets."""

from PySide6.QtCore import QObject, Signal, Slot


class Playback(QObject):
    """A looping clock over `frame_count` frames at `fps`."""

    frame_changed = Signal(int)
    playing_changed = Signal(bool)
    clip_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.frame_count = 0
        self.fps = 16
        self.frame = 0
        self.is_playing = True
        self._seconds = 0.0

    @property
    def has_clip(self) -> bool:
        """Whether there is anything to show."""
        return self.frame_count > 0

    def open_clip(self, frame_count: int) -> None:
        """Begin another clip at its first frame, playing."""
        self.frame_count = frame_count
        self._seconds = 0.0
        self.frame = 0
        self.clip_changed.emit()
        self.frame_changed.emit(0)
        self.set_playing(True)

    @Slot()
    def close_clip(self) -> None:
        """Show nothing."""
        self.frame_count = self.frame = 0
        self.clip_changed.emit()

    def set_fps(self, fps: int) -> None:
        """The pace of the current and later clips."""
        self.fps = fps
        self.clip_changed.emit()

    def advance(self, seconds: float) -> None:
        """Let time pass; the loop wraps, however long the pause was."""
        if not self.is_playing or not self.has_clip:
            return
        self._seconds = (self._seconds + seconds) % (self.frame_count / self.fps)
        self._show(int(self._seconds * self.fps))

    @Slot(int)
    def seek(self, frame: int) -> None:
        """Show this frame of the clip, if there is one."""
        if not self.has_clip:
            return
        self._seconds = (frame + 0.5) / self.fps  # mid-frame, so that rounding cannot fall into the one before
        self._show(frame)

    def step(self, frames: int) -> None:
        """Pause and move by whole frames, around the loop."""
        if self.has_clip:
            self.set_playing(False)
            self.seek((self.frame + frames) % self.frame_count)

    def set_playing(self, playing: bool) -> None:
        """Run or hold."""
        if playing != self.is_playing:
            self.is_playing = playing
            self.playing_changed.emit(playing)

    @Slot()
    def toggle(self) -> None:
        """Run if held, hold if running."""
        self.set_playing(not self.is_playing)

    def _show(self, frame: int) -> None:
        frame = min(frame, self.frame_count - 1)
        if frame != self.frame:
            self.frame = frame
            self.frame_changed.emit(frame)
