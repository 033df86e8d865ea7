"""Latents from a dialog or a drop: real drag events through the real window, as a file browser would send them."""

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel, QLineEdit, QPlainTextEdit, QWidget

from desktop.actions import ActionName
from desktop.state.job import Phase
from desktop.state.output_path import decoded_video_path
from engine.commands import COMMAND_FILE, DecodeLatents, LatentsLayout, LatentsSpace
from engine.events import Stage
from tests.desktop.conftest import Desk, Desks
from tests.desktop.scripted_engine import Script

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support")  # what dialogs ask of a window system

COPY, MOVE = Qt.DropAction.CopyAction, Qt.DropAction.MoveAction
LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture
def opened(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(type(desk.app.settings), "video_folder", desk.folder / "videos")
    return desk


def mime(*files: Path | str) -> QMimeData:
    """What file browsers hand out: addresses, and the same as text."""
    data = QMimeData()
    data.setUrls([QUrl(each) if isinstance(each, str) else QUrl.fromLocalFile(str(each)) for each in files])
    data.setText("\n".join(map(str, files)))
    return data


def enter(target: QWidget, data: QMimeData, actions: Qt.DropAction = COPY | MOVE) -> QDragEnterEvent:
    """Drag `data` onto `target`; whoever takes it, Qt asks the widgets around it in turn."""
    event = QDragEnterEvent(QPoint(5, 5), actions, data, LEFT, NONE)
    event.setDropAction(MOVE)  # what Windows proposes between folders of one disk
    event.ignore()
    QApplication.sendEvent(target, event)
    return event


def drop(desk: Desk, data: QMimeData) -> QDropEvent:
    assert enter(desk.app.window, data).isAccepted()
    event = QDropEvent(QPoint(5, 5), COPY | MOVE, data, LEFT, NONE)
    QApplication.sendEvent(desk.app.window, event)
    return event


def said(desk: Desk) -> str:
    return " ".join(label.text() for label in desk.app.window.error_bar.findChildren(QLabel))


@pytest.mark.parametrize("name", ["a cake.pth", "a.PT", "ComfyUI_00001_.latent", "latents.safetensors", "视频.pt"])
def test_a_dropped_file_is_decoded_with_the_chosen_model(opened: Desk, name: str) -> None:
    hint, file = opened.app.window.drop_hints.hints[0], opened.folder / name
    event = enter(opened.app.window, mime(file))
    assert (event.isAccepted(), event.dropAction()) == (True, COPY), "a move would let the file be removed"
    assert hint.isVisible()
    assert name in hint.text
    assert drop(opened, mime(file)).dropAction() == COPY
    assert not hint.isVisible()
    opened.wait_for(Phase.FINISHED)
    output = decoded_video_path(opened.folder / "videos", file)
    assert opened.engine.commands == [DecodeLatents(file, output, opened.app.prompt.model)]


def test_latents_of_a_job_are_decoded_with_its_own_model(opened: Desk) -> None:
    file = opened.folder / "latents.safetensors"
    (opened.folder / COMMAND_FILE).touch()
    drop(opened, mime(file))
    opened.wait_for(Phase.FINISHED)
    command = opened.engine.commands[0]
    assert isinstance(command, DecodeLatents)
    assert command.model is None
    assert (command.layout, command.space) == (LatentsLayout.AUTOMATIC, LatentsSpace.AUTOMATIC)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.pt", "b.pt"), "Only one file of latents"), (("film.txt",), "not a file of latents"),
        (("safetensors",), ".safetensors, .latent, .pth, .pt"), (("a.pt.zip",), "not a file of latents"),
    ],
)  # fmt: skip
def test_what_is_not_opened_is_told_before_and_after_the_drop(opened: Desk, names: tuple[str, ...], words: str) -> None:
    data = mime(*(opened.folder / name for name in names))
    enter(opened.app.window, data)
    warned = opened.app.window.drop_hints.hints[0].text
    drop(opened, data)
    assert words in said(opened)
    assert warned in said(opened)
    assert opened.app.window.error_bar.isVisible()
    assert opened.app.job.phase is Phase.IDLE
    drop(opened, mime(opened.folder / "a.pt"))
    opened.wait_for(Phase.FINISHED)
    assert not opened.app.window.error_bar.isVisible()


def test_only_local_files_that_may_be_copied_are_taken(opened: Desk) -> None:
    window, text = opened.app.window, QMimeData()
    text.setText("/latents.pt")
    local = opened.folder / "a.pt"
    for data in (text, QMimeData(), mime("https://example.org/a.pt"), mime(local, "https://example.org/a.pt")):
        assert not enter(window, data).isAccepted()
    assert not enter(window, mime(local), MOVE).isAccepted()
    assert not window.drop_hints.hints[0].isVisible()


def test_dragging_away_takes_the_hint_along(opened: Desk) -> None:
    enter(opened.app.window, mime(opened.folder / "a.pt"))
    assert opened.app.window.drop_hints.hints[0].isVisible()
    QApplication.sendEvent(opened.app.window, QDragLeaveEvent())
    assert not opened.app.window.drop_hints.hints[0].isVisible()


def test_no_field_takes_a_file_for_text(opened: Desk) -> None:
    """A drop on the prompt, or on a number, reaches the window instead of writing a path there."""
    data = mime(opened.folder / "a.pt")
    prompts = [edit.viewport() for edit in opened.app.window.panel.findChildren(QPlainTextEdit)]
    fields = opened.app.window.panel.findChildren(QLineEdit)
    assert len(prompts) == 2
    assert len(fields) > 4
    for target in (*prompts, *fields):
        assert enter(target, data).isAccepted()
        assert opened.app.window.drop_hints.hints[0].isVisible()
        QApplication.sendEvent(opened.app.window, QDragLeaveEvent())
    assert opened.app.prompt.values.prompt == ""
    words = QMimeData()
    words.setText("a green star")
    assert enter(prompts[0], words).isAccepted(), "words can still be dragged into the prompt"
    assert not opened.app.window.drop_hints.hints[0].isVisible()


def test_nothing_is_opened_while_a_job_runs(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0.05, strip_seconds=0))
    action = desk.app.actions[ActionName.OPEN_LATENTS]
    assert action.isEnabled()
    desk.submit(steps=8)
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.SAMPLE)
    assert not action.isEnabled()
    assert not enter(desk.app.window, mime(desk.folder / "a.pt")).isAccepted()
    desk.app.jobs.decode_file(desk.folder / "a.pt")
    desk.wait_for(Phase.FINISHED)
    assert action.isEnabled()
    assert len(desk.engine.commands) == 1


def dialog_of(desk: Desk) -> QFileDialog:
    desk.app.window.activateWindow()
    assert QTest.qWaitForWindowActive(desk.app.window)
    desk.press(Qt.Key.Key_O, Qt.KeyboardModifier.ControlModifier)
    desk.qtbot.waitUntil(lambda: desk.app.window.findChild(QFileDialog) is not None)
    return desk.child(QFileDialog, "latentsDialog")


def test_the_dialog_opens_by_key_and_remembers_its_folder(opened: Desk) -> None:
    (opened.folder / "kept").mkdir()
    file = opened.folder / "kept" / "a cake.latent"
    file.touch()
    dialog = dialog_of(opened)
    assert dialog.nameFilters()[0] == "Latents (*.safetensors *.latent *.pth *.pt)"
    dialog.setDirectory(str(file.parent))
    dialog.selectFile(str(file))
    opened.qtbot.waitUntil(lambda: dialog.selectedFiles() == [str(file)])
    dialog.accept()
    opened.wait_for(Phase.FINISHED)
    command = opened.engine.commands[0]
    assert (command.output.name, command.output.parent) == ("a-cake-decoded.mp4", opened.folder / "videos")
    opened.qtbot.waitUntil(lambda: opened.app.window.findChild(QFileDialog) is None)
    again = dialog_of(opened)
    assert Path(again.directory().absolutePath()) == file.parent
    again.reject()
    opened.qtbot.waitUntil(lambda: opened.app.window.findChild(QFileDialog) is None)
    assert len(opened.engine.commands) == 1


def test_a_folder_for_videos_that_cannot_be_made_is_told(opened: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (opened.folder / "file").touch()
    monkeypatch.setattr(type(opened.app.settings), "video_folder", opened.folder / "file" / "videos")
    drop(opened, mime(opened.folder / "a.pt"))
    opened.qtbot.waitUntil(lambda: "cannot be saved" in said(opened))
    assert opened.app.job.phase is Phase.IDLE


def test_decoded_videos_have_names_that_every_system_takes(tmp_path: Path) -> None:
    names = []
    for stem in ("Con", "a/../b.c", "  ", "x" * 300, "a-decoded"):
        path = decoded_video_path(tmp_path, Path(stem + ".pt"))
        path.touch()
        names.append(path.name)
    again = decoded_video_path(tmp_path, Path("con.latent")).name
    assert names == ["con-decoded.mp4", "b-c-decoded.mp4", "video-decoded.mp4", f"{'x' * 60}-decoded.mp4",
                     "a-decoded-decoded.mp4"]  # fmt: skip
    assert again == "con-decoded-2.mp4"


def colours_at_the_edge(desk: Desk) -> set[str]:
    """The colours of the row of pixels in which the hint's dashed line runs along the top of the picture."""
    image = desk.app.window.preview.grab().toImage()
    return {image.pixelColor(x, 12).name() for x in range(image.width())}


def test_the_hint_warns_in_another_colour_than_it_invites(opened: Desk) -> None:
    window, colours = opened.app.window, opened.app.theme.colours
    assert not {colours.accent, colours.danger} & colours_at_the_edge(opened)
    enter(window, mime(opened.folder / "a.pt"))
    assert window.drop_hints.hints[0].size() == window.preview.size()
    assert colours.accent in colours_at_the_edge(opened)
    enter(window, mime(opened.folder / "a.txt"))
    assert colours.danger in colours_at_the_edge(opened)
