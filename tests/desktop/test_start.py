"""Pictures and clips that videos begin from, and videos made one after the other: real files, real threads."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel, QLineEdit, QPushButton, QSpinBox, QWidget

from desktop.start_words import missing_start_text, refused_start_text, slot_name, start_name
from desktop.state.job import Phase
from desktop.state.start import (
    EXTEND,
    FIRST,
    LAST,
    RESTYLE,
    SLOTS,
    StartKind,
    StartRefusal,
    StartState,
    slots_of,
    start_refusal,
)
from desktop.state.thumbnails import Thumbnail
from desktop.views.choice_box import ChoiceBox
from desktop.views.media_slot import MediaSlot
from engine.commands import ContinueVideo, GenerateVideo
from engine.errors import EngineError
from engine.events import Stage
from engine.generation import Given
from engine.output.video_writer import VideoFormat
from engine.pictures.fit import Target, fitted_picture, fitted_size
from engine.pictures.road import PictureRoad, PictureUse, check_given
from tests.desktop.conftest import DEFAULTS, Desk, Desks
from tests.desktop.scripted_engine import Script
from tests.engine.video_writing import write

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support")
COPY, LEFT = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
TEXT = PictureUse(PictureRoad.NONE)
TI2V = PictureUse(PictureRoad.FRAMES)
I2V, FLF2V, I2V_EXPERTS = (PictureUse(PictureRoad.CHANNELS, described) for described in (1, 2, 0))
USES = (TEXT, TI2V, I2V, FLF2V, I2V_EXPERTS)


def picture(file: Path, width: int = 90, height: int = 60) -> Path:
    """A picture whose left half is red and whose right half is blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0], pixels[:, width // 2 :, 2] = 255, 255
    Image.fromarray(pixels).save(file)
    return file


def use(desk: Desk, pictures: PictureUse) -> None:
    """Another model, that uses pictures so."""
    defaults = replace(DEFAULTS, pictures=pictures)
    desk.app.prompt.take_model(desk.app.prompt.use, defaults, is_ready=True)


def of_files(slots: tuple[str, ...]) -> Given:
    """All of these given."""
    first, last, extend, restyle = (Path("file") if slot in slots else None for slot in (FIRST, LAST, EXTEND, RESTYLE))
    return Given(first=first, last=last, extend=extend, restyle=restyle)


def drop(widget: QWidget, file: Path) -> bool:
    """Drop a file on `widget`; whether it was welcome there."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(file))])
    no_keys, middle = Qt.KeyboardModifier.NoModifier, widget.rect().center()
    enter = QDragEnterEvent(QPoint(middle), COPY, data, LEFT, no_keys)
    QApplication.sendEvent(widget, enter)
    QApplication.sendEvent(widget, QDropEvent(middle.toPointF(), COPY, data, LEFT, no_keys))
    return enter.isAccepted()


def wait_for_thumbnail(desk: Desk, slot: str) -> Thumbnail | EngineError:
    desk.qtbot.waitUntil(lambda: desk.app.thumbnails.of(slot) is not None, timeout=20_000)
    answer = desk.app.thumbnails.of(slot)
    assert answer is not None
    return answer


def texts(widget: QWidget) -> str:
    return " ".join(each.text().replace("\u200b", "") for each in widget.findChildren(QLabel) if each.isVisible())


@pytest.mark.parametrize(("kind", "use"), list(product(StartKind, USES)))
def test_what_can_be_chosen_is_what_the_engine_takes(kind: StartKind, use: PictureUse) -> None:
    """The engine's own check is the judge: what the window offers, complete, it must not refuse."""
    given = of_files(slots_of(kind, use))
    if start_refusal(kind, use) is None:
        check_given(given, use)
        assert set(SLOTS[kind]) <= set(slots_of(kind, use))
        return
    with pytest.raises(EngineError):
        check_given(of_files(SLOTS[kind]), use)


@pytest.mark.parametrize("use", USES)
def test_every_model_can_begin_somehow_and_drops_find_their_place(use: PictureUse) -> None:
    start = StartState()
    start.take_use(use)
    assert start_refusal(start.kind, use) is None
    place = start.place_for(Path("a.png"))
    assert (place is None) == (use == TEXT)
    assert start.place_for(Path("a.txt")) is None
    start.take_file(Path("a.mp4"))
    assert start.kind in (StartKind.EXTEND, StartKind.RESTYLE)
    assert start.given().extend or start.given().restyle


def test_files_are_kept_for_the_way_that_they_were_chosen_for() -> None:
    start = StartState()
    start.take_use(I2V_EXPERTS)
    assert start.kind is StartKind.FIRST, "words alone are not enough"
    start.take_file(Path("a.png"))
    start.choose(StartKind.FIRST_AND_LAST)
    assert start.missing == ("last",)
    start.take_file(Path("b.png"))
    assert start.given() == Given(first=Path("a.png"), last=Path("b.png"))
    start.take_use(TEXT)
    assert start.given() == Given()
    start.take_use(FLF2V)
    assert start.given() == Given(first=Path("a.png"), last=Path("b.png"))


def test_every_way_and_every_reason_has_words() -> None:
    assert len({start_name(kind) for kind in StartKind}) == len(StartKind)
    assert len({refused_start_text(refusal) for refusal in StartRefusal}) == len(StartRefusal)
    slots = ("first", "last", "extend", "restyle")
    assert len({slot_name(slot) for slot in slots}) == len({missing_start_text((slot,)) for slot in slots}) == 4


def test_ways_that_the_model_cannot_go_are_grey_and_say_why(desk: Desk) -> None:
    box = desk.child(ChoiceBox, "startKind")
    states = [bool(box.model().index(i, 0).flags() & Qt.ItemFlag.ItemIsEnabled) for i in range(box.count())]
    assert states == [True, False, False, False, True]
    assert "from words alone" in box.itemData(1, Qt.ItemDataRole.ToolTipRole)
    use(desk, FLF2V)
    states = [bool(box.model().index(i, 0).flags() & Qt.ItemFlag.ItemIsEnabled) for i in range(box.count())]
    assert states == [False, False, True, True, True]


def test_a_picture_is_shown_as_it_will_be_fitted(desk: Desk) -> None:
    use(desk, TI2V)
    file = picture(desk.folder / "a.png")
    assert drop(desk.app.window, file)
    answer = wait_for_thumbnail(desk, "first")
    assert isinstance(answer, Thumbnail)
    assert answer.size == (90, 60)
    expected = fitted_picture(np.array(Image.open(file)), Target((256, 256), 32, PictureRoad.FRAMES))
    image = answer.image
    for x, y in product(range(0, 256, 51), repeat=2):
        colour = image.pixelColor(x, y)
        assert (colour.red(), colour.green(), colour.blue()) == tuple(expected[y, x])
    slot = desk.app.window.panel.start.slots["first"]
    assert "a.png" in texts(slot)
    assert "90 × 60" in texts(slot)


def test_a_picture_proposes_its_shape(desk: Desk) -> None:
    use(desk, TI2V)
    drop(desk.app.window, picture(desk.folder / "a.png", 300, 100))
    wait_for_thumbnail(desk, "first")
    button = desk.child(QPushButton, "proposal")
    width, height = fitted_size((300, 100), 256 * 256, 32, PictureRoad.FRAMES)
    assert button.text() == f"Take its shape: {width} × {height}"
    assert width / height == pytest.approx(3, rel=0.1)
    desk.click(button)
    assert (desk.app.prompt.values.width, desk.app.prompt.values.height) == (width, height)
    assert not button.isVisible()


def test_a_video_begins_with_the_picture_and_without_it_not_at_all(desk: Desk) -> None:
    use(desk, I2V)
    desk.app.prompt.change(replace(desk.app.prompt.values, prompt="x"))
    generate = desk.child(QPushButton, "generate")
    assert not generate.isEnabled()
    assert "Choose the first picture" in desk.child(QLabel, "missing").text()
    asked = len(desk.engine.plans)
    file = picture(desk.folder / "a.png")
    assert drop(desk.child(MediaSlot, "slot_first"), file)
    assert generate.isEnabled()
    desk.qtbot.waitUntil(lambda: len(desk.engine.plans) > asked, timeout=60_000)
    desk.qtbot.waitUntil(lambda: desk.app.prompt.outlook.outlook is not None)
    assert desk.engine.plans[-1].command.given == Given(first=file)
    assert desk.app.prompt.outlook.stage(Stage.IMAGE) is not None
    desk.click(desk.app.window.panel.start.slots["first"].clear)
    assert not generate.isEnabled()


def test_a_picture_that_cannot_be_read_says_why(desk: Desk) -> None:
    use(desk, TI2V)
    broken = desk.folder / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    drop(desk.app.window, broken)
    assert isinstance(wait_for_thumbnail(desk, "first"), EngineError)
    assert "cannot be used" in texts(desk.app.window.panel.start.slots["first"])


def test_a_picture_for_a_model_of_words_is_refused_in_words(desk: Desk) -> None:
    drop(desk.app.window, picture(desk.folder / "a.png"))
    assert desk.app.prompt.start.files == {}
    assert "from words alone" in texts(desk.app.window.error_bar)


def test_a_file_is_chosen_in_a_dialog(desk: Desk) -> None:
    use(desk, TI2V)
    desk.app.prompt.start.choose(StartKind.FIRST)
    file = picture(desk.folder / "a.png")
    desk.click(desk.app.window.panel.start.slots["first"].picture)
    dialog = desk.child(QFileDialog, "mediaDialog")
    dialog.setDirectory(str(desk.folder))
    name = desk.child(QLineEdit, "fileNameEdit", dialog)
    name.setText(str(file))
    dialog.accept()
    assert desk.app.prompt.start.files == {"first": file}
    assert desk.app.settings.media_folder == str(desk.folder)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Nine frames that grow lighter, at 16 frames a second."""
    file = tmp_path / "clip.mp4"
    frames = (np.full((64, 64, 4), 40 + 20 * value, np.uint8) for value in range(9))
    write(file, np.stack(list(frames)), VideoFormat(64, 64, 16))
    return file


def test_a_clip_shows_the_frame_that_counts_and_how_long_it_is(desk: Desk, clip: Path) -> None:
    use(desk, TI2V)
    drop(desk.app.window, clip)
    last = wait_for_thumbnail(desk, "extend")
    assert isinstance(last, Thumbnail)
    assert last.frames == 9
    desk.app.prompt.start.choose(StartKind.RESTYLE)
    desk.app.prompt.start.take_file(clip)
    first = wait_for_thumbnail(desk, "restyle")
    assert isinstance(first, Thumbnail)
    assert last.image.pixelColor(9, 9).lightness() > first.image.pixelColor(9, 9).lightness() + 60
    assert "only 9 frames" in texts(desk.app.window.panel.start.slots["restyle"])
    desk.app.prompt.change(replace(desk.app.prompt.values, frames=9))
    assert "0.6 s" in texts(desk.app.window.panel.start.slots["restyle"])


def test_videos_are_made_one_after_the_other_with_seeds_that_follow(
    desks: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desks.open(Script(sample_seconds=0, strip_seconds=0))
    monkeypatch.setattr(type(desk.app.settings), "video_folder", desk.folder / "videos")
    box = next(each for each in desk.app.window.findChildren(QSpinBox) if each.accessibleName() == "Number of videos")
    box.setValue(3)
    desk.app.prompt.change(replace(desk.app.prompt.values, prompt="ball", seed=7, frames=1, steps=1))
    desk.click(desk.child(QPushButton, "generate"))
    desk.qtbot.waitUntil(lambda: len(desk.engine.commands) == 3 and desk.app.job.phase is Phase.FINISHED)
    commands = [command for command in desk.engine.commands if isinstance(command, GenerateVideo)]
    assert [(command.seed, command.output.name) for command in commands] == [
        (7, "ball-7.mp4"), (8, "ball-8.mp4"), (9, "ball-9.mp4"),
    ]  # fmt: skip
    assert desk.app.prompt.values.seed == 7


def test_cancel_stops_the_rest_too(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desks.open(Script(sample_seconds=0, strip_seconds=0, hold_at_row=0))
    monkeypatch.setattr(type(desk.app.settings), "video_folder", desk.folder / "videos")
    desk.app.prompt.change(replace(desk.app.prompt.values, prompt="ball", videos=3, steps=1))
    desk.app.jobs.generate()
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.DECODE, timeout=20_000)
    assert "video 1 of 3" in texts(desk.app.window.progress)
    desk.app.jobs.cancel()
    desk.wait_for(Phase.CANCELLED)
    desk.qtbot.wait(100)
    assert len(desk.engine.commands) == 1


def test_a_stopped_job_goes_on_from_what_is_kept(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0.05, keep_every=1))
    desk.submit(steps=50)
    desk.qtbot.waitUntil(lambda: desk.app.job.kept_steps >= 2, timeout=20_000)
    desk.app.jobs.cancel()
    desk.wait_for(Phase.CANCELLED)
    assert f"kept up to step {desk.app.job.kept_steps}" in texts(desk.app.window.progress)
    desk.click(desk.app.window.progress.go_on)
    desk.wait_for(Phase.FINISHED)
    assert desk.engine.commands[-1] == ContinueVideo(desk.folder, desk.folder / "out.mp4")
