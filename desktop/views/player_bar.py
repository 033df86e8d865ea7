"""Play, pause and scrub under the picture; UI thread."""

from PySide6.QtCore import QSize, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QToolButton, QWidget

from desktop.icons import icon
from desktop.state.playback import Playback
from desktop.theme import Colours
from desktop.views.seek_slider import SeekSlider


class PlayerBar(QWidget):
    """Shows and moves `Playback`."""

    def __init__(self, playback: Playback, colours: Colours) -> None:
        super().__init__()
        self._playback = playback
        self._colours = colours
        self._play = QToolButton()
        self._play.setFixedSize(32, 32)
        self._play.setIconSize(QSize(18, 18))
        self._scrub = SeekSlider()
        self._scrub.setAccessibleName(self.tr("Frame"))
        self._time = QLabel()
        self._time.setProperty("role", "dim")
        self._lay_out()
        self._play.clicked.connect(playback.toggle)
        self._scrub.sliderPressed.connect(self._hold)
        self._scrub.valueChanged.connect(self._seek)
        playback.frame_changed.connect(self._show_frame)
        playback.playing_changed.connect(self._show_playing)
        playback.clip_changed.connect(self._show_clip)
        self._show_clip()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self._show_playing()

    def _lay_out(self) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self._play)
        row.addWidget(self._scrub, 1)
        row.addSpacing(4)
        row.addWidget(self._time)

    @Slot()
    def _hold(self) -> None:
        self._playback.set_playing(False)

    @Slot(int)
    def _seek(self, frame: int) -> None:
        self._playback.seek(frame)

    @Slot()
    def _show_clip(self) -> None:
        has_clip = self._playback.has_clip
        self._play.setEnabled(has_clip)
        self._scrub.setEnabled(has_clip)
        self._scrub.blockSignals(True)  # a shorter range moves the handle, which is nobody's wish to seek
        self._scrub.setRange(0, max(0, self._playback.frame_count - 1))
        self._scrub.blockSignals(False)
        self._show_frame()
        self._show_playing()

    @Slot()
    def _show_frame(self) -> None:
        self._scrub.blockSignals(True)
        self._scrub.setValue(self._playback.frame)
        self._scrub.blockSignals(False)
        self._time.setText(self._time_text())

    def _time_text(self) -> str:
        count, fps = self._playback.frame_count, self._playback.fps
        if not count:
            return "0.0 / 0.0 s"
        return self.tr("{now} / {total} s").format(now=f"{self._playback.frame / fps:.1f}", total=f"{count / fps:.1f}")

    @Slot()
    def _show_playing(self) -> None:
        playing = self._playback.is_playing and self._playback.has_clip
        colour = self._colours.text if self._playback.has_clip else self._colours.text_faint
        self._play.setIcon(icon("pause" if playing else "play", colour))
        name = self.tr("Pause (Space)") if playing else self.tr("Play (Space)")
        self._play.setToolTip(name)
        self._play.setAccessibleName(name)
