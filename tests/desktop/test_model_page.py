"""The page of models in the real window: from a folder to a command, with the keys, in every room, and again later."""

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QSize, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QLabel,
    QListView,
    QPushButton,
    QToolButton,
    QWidget,
)

from desktop.state.found_items import ItemRole
from desktop.state.job import Phase
from desktop.state.library import Standing
from desktop.theme import Appearance
from desktop.views.choice_box import ChoiceBox
from desktop.views.drop_hint import DropHint
from desktop.views.main_window import FRAME, SMALLEST_SIZE
from desktop.views.size_row import SizeRow
from desktop.worker import AllocatorSource, JobRunner
from engine.commands import EMBEDDED_MODEL, DecodeLatents, GenerateVideo
from engine.model_choice import LoraUse, ModelParts, WeightForm
from tests.desktop.conftest import Desk, Desks
from tests.desktop.model_folders import (
    CLIP,
    HIGH,
    I2V_14B,
    LORA_14B,
    LORA_SMALL,
    LOW,
    REFUSED,
    T2V_14B,
    T2V_SMALL,
    TEXT_ENCODER,
    TI2V_5B,
    VAE_21,
    WHOLE,
    put,
)
from tests.desktop.scripted_engine import Script
from tests.engine.sparse_files import write_sparse
from tests.engine.tiny_model import build_tiny_model

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support")  # what pop-ups and dialogs ask of a system
CONTROL = Qt.KeyboardModifier.ControlModifier
COPY = Qt.DropAction.CopyAction
LONG_NAME = "a-name-without-any-space-in-it" * 5


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return put(tmp_path / "models", *WHOLE)


def search(desk: Desk, *places: Path) -> None:
    """Name places and wait until all has been seen."""
    for place in places:
        desk.app.models.add_place(place)
    desk.qtbot.waitUntil(lambda: not desk.app.models.found.is_searching)


def said(desk: Desk) -> str:
    """Every word on the page that can be seen."""
    labels = desk.app.window.models.findChildren(QLabel)
    return "\n".join(label.text().replace("\u200b", "") for label in labels if label.isVisible())


def box(desk: Desk, name: str) -> ChoiceBox:
    return desk.child(ChoiceBox, name, desk.app.window.models)


def choose(desk: Desk, name: str, words: str) -> None:
    """As a person does who steps through the list with the keys."""
    list_of = box(desk, name)
    index = next(i for i, option in enumerate(list_of.options) if words in option.text)
    desk.press(Qt.Key.Key_Home, widget=list_of)
    for _ in range(index):
        desk.press(Qt.Key.Key_Down, widget=list_of)


def generate(desk: Desk) -> GenerateVideo:
    """Press Generate; returns what the engine was told."""
    desk.submit(width=64, height=64, frames=5, steps=1)
    desk.wait_for(Phase.FINISHED)
    command = desk.engine.commands[-1]
    assert isinstance(command, GenerateVideo)
    return command


def test_without_a_folder_the_page_says_what_to_do(desks: Desks) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    button = desk.child(QPushButton, "models")
    assert "mini" in button.text()
    desk.click(button)
    assert desk.app.window.models.isVisible()
    assert not desk.app.window.preview.isVisible()
    assert "Nothing is downloaded" in said(desk)
    assert "brings along all that it needs" in said(desk)
    assert "LoRA" not in said(desk)
    assert not desk.child(QListView, "foundList").isVisible()
    assert desk.child(QPushButton, "addFolder").hasFocus() or not desk.app.window.isActiveWindow()
    assert [option.value for option in box(desk, "model").options] == [EMBEDDED_MODEL]


def test_a_folder_leads_to_a_command(desks: Desks, models: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    search(desk, models)
    assert "3 model files" in said(desk)
    assert desk.child(QPushButton, "models").toolTip() == "Wan 2.1 text to video, 1.3B"
    assert (desk.app.prompt.values.width, desk.app.prompt.values.frames) == (832, 81)
    assert desk.child(QComboBox, parent=desk.child(SizeRow)).currentText().startswith("832 × 480")
    choose(desk, "weights", "8-bit")
    command = generate(desk)
    assert (command.model, command.weights) == (models / T2V_SMALL, WeightForm.FP8_SCALED)
    assert command.parts == ModelParts(vae=models / VAE_21, text_encoder=models / TEXT_ENCODER)
    desk.qtbot.waitUntil(lambda: desk.engine.plans[-1].command.parts == command.parts)
    choose(desk, "model", "mini")
    assert generate(desk).model == EMBEDDED_MODEL
    assert desk.app.prompt.values.width == 256


def test_missing_parts_are_told_by_their_official_names(desks: Desks, tmp_path: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    folder = put(tmp_path / "one", T2V_SMALL)
    search(desk, folder)
    for name in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model"):
        assert name in said(desk)
    assert "3 parts are missing" in desk.child(QLabel, "modelStanding").text()
    desk.type(desk.child(QWidget, "prompt"), "a red ball")
    assert not desk.child(QPushButton, "generate").isEnabled()
    desk.app.jobs.generate()
    assert not desk.engine.commands
    put(folder, *WHOLE)
    desk.app.models.found.search_again()
    desk.qtbot.waitUntil(lambda: desk.app.models.library.standing is Standing.READY)
    assert desk.child(QPushButton, "generate").isEnabled()
    assert "is missing" not in said(desk)
    assert not desk.child(QLabel, "modelStanding").isVisible()


@pytest.mark.parametrize(
    ("names", "chosen", "missing"),
    [((I2V_14B, CLIP, VAE_21), I2V_14B, "Choose the first picture"), ((HIGH, LOW, VAE_21), HIGH, "")],
)
def test_models_of_pictures_and_of_two_experts_say_what_they_need(
    desks: Desks, tmp_path: Path, names: tuple[str, ...], chosen: str, missing: str
) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    search(desk, put(tmp_path / "models", *names, TEXT_ENCODER))
    assert desk.app.models.library.choice.model.name == Path(chosen).name
    desk.type(desk.child(QWidget, "prompt"), "a red ball")
    assert missing in desk.child(QLabel, "missing").text()
    assert desk.child(QPushButton, "generate").isEnabled() == (not missing)
    assert box(desk, "low_noise").isVisible() == (chosen == HIGH)
    assert box(desk, "image_encoder").isVisible() == (chosen == I2V_14B)
    assert (desk.app.prompt.command(Path()).guidance_low is not None) == (chosen == HIGH)


def test_found_files_are_listed_and_refused_ones_with_the_reason(desks: Desks, models: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    search(desk, put(models, REFUSED, LORA_SMALL))
    items = desk.child(QListView, "foundList").model()
    rows = [items.index(row, 0) for row in range(items.rowCount())]
    assert [index.data() for index in rows] == [Path(each).name for each in (*WHOLE[:1], TEXT_ENCODER, VAE_21)] + [
        Path(LORA_SMALL).name, Path(REFUSED).name,
    ]  # fmt: skip
    assert [index.data(ItemRole.IS_REFUSED) for index in rows] == [False] * 4 + [True]
    assert rows[0].data(ItemRole.WHAT).startswith("Wan 2.1 text to video, 1.3B · bf16")
    assert rows[0].data(ItemRole.SIZE).endswith(" GB on the card")
    assert rows[-1].data(ItemRole.WHAT).startswith("Cannot be used: ")
    assert len(rows[-1].data(ItemRole.WHAT)) > 25
    assert ", 1 refused" in said(desk)
    files = desk.child(QListView, "foundList")
    for key in (Qt.Key.Key_Home, Qt.Key.Key_End):  # the first one only goes into the list
        desk.press(key, widget=files)
    assert rows[-1].data(ItemRole.WHAT) in said(desk)
    assert str(models / REFUSED) in said(desk)
    desk.app.models.found.remove_place(models)
    assert str(models / REFUSED) not in said(desk)
    search(desk, models)
    rows = [items.index(row, 0) for row in range(items.rowCount())]
    assert str(models / T2V_SMALL) in rows[0].data(Qt.ItemDataRole.ToolTipRole)


def test_loras_with_strengths(desks: Desks, tmp_path: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    folder = put(tmp_path / "models", T2V_14B, VAE_21, TEXT_ENCODER, LORA_14B, LORA_SMALL)
    search(desk, folder)
    add = desk.child(QPushButton, "addLora")
    assert [action.text() for action in add.menu().actions()] == ["grain_14B"]
    add.menu().actions()[0].trigger()
    strength = next(
        each for each in desk.app.window.models.findChildren(QDoubleSpinBox) if "grain" in each.accessibleName()
    )
    strength.selectAll()
    desk.type(strength, "-0.35")
    desk.press(Qt.Key.Key_Return, widget=strength)
    assert generate(desk).loras == (LoraUse(folder / LORA_14B, -0.35),)
    desk.app.window.open_models()
    assert not add.isEnabled()
    remove = next(
        each for each in desk.app.window.models.findChildren(QToolButton) if "without grain" in each.accessibleName()
    )
    desk.click(remove)
    assert generate(desk).loras == ()


def test_the_choice_is_there_at_the_next_start(desks: Desks, tmp_path: Path) -> None:
    folder = put(tmp_path / "models", *WHOLE, T2V_14B, LORA_14B)
    desk = desks.open(model=EMBEDDED_MODEL)
    search(desk, folder)
    choose(desk, "model", "14B")
    choose(desk, "weights", "4-bit")
    desk.app.models.library.add_lora(folder / LORA_14B)
    before = desk.app.models.library.use()
    desks.close_all()
    again = desks.open(model=EMBEDDED_MODEL)
    assert not again.app.window.models.isVisible()
    again.qtbot.waitUntil(lambda: again.app.models.library.standing is Standing.READY)
    assert again.app.models.library.use() == before
    again.qtbot.waitUntil(lambda: again.app.prompt.use == before)
    again.app.models.found.remove_place(folder)
    assert "not in the chosen folders" in again.child(QLabel, "modelStanding").text()
    choose(again, "model", "mini")
    desks.close_all()
    last = desks.open(model=EMBEDDED_MODEL)
    assert (last.app.models.library.standing, last.app.models.found.places) == (Standing.READY, [])


def test_a_model_of_the_command_line_is_not_replaced_by_what_was_kept(desks: Desks, models: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    search(desk, models)
    desks.close_all()
    other = desks.open()
    other.qtbot.waitUntil(lambda: not other.app.models.found.is_searching)
    assert other.app.prompt.model == other.folder


def drop(desk: Desk, *files: Path) -> None:
    """Drop files on the window, as a file browser would."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(each)) for each in files])
    point, none = QPoint(5, 5), Qt.KeyboardModifier.NoModifier
    entered = QDragEnterEvent(point, COPY, data, Qt.MouseButton.LeftButton, none)
    QApplication.sendEvent(desk.app.window, entered)
    assert entered.isAccepted()
    hints = [hint.text for hint in desk.app.window.findChildren(DropHint) if hint.isVisible()]
    assert len(hints) == 1
    assert files[0].name in hints[0]
    assert ("look for models" in hints[0]) == files[0].is_dir()
    QApplication.sendEvent(desk.app.window, QDropEvent(point, COPY, data, Qt.MouseButton.LeftButton, none))


def test_folders_and_files_of_models_are_dropped_and_latents_still_decoded(
    desks: Desks, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    monkeypatch.setattr(type(desk.app.settings), "video_folder", tmp_path / "videos")
    drop(desk, models)
    desk.qtbot.waitUntil(
        lambda: desk.app.models.library.standing is Standing.READY and not desk.app.models.library.is_whole
    )
    assert desk.app.window.models.isVisible()
    desk.app.window.close_page()
    single = put(tmp_path / "other", TI2V_5B) / TI2V_5B
    drop(desk, single)
    desk.qtbot.waitUntil(lambda: desk.app.models.library.choice.model == single)
    assert "Wan2.2_VAE.pth" in said(desk)
    latents = tmp_path / "clip.safetensors"
    write_sparse(latents, {"latents": ("F32", (1, 16, 3, 8, 8))})
    choose(desk, "model", "1.3B")
    drop(desk, latents)
    desk.wait_for(Phase.FINISHED)
    command = desk.engine.commands[-1]
    assert isinstance(command, DecodeLatents)
    assert (command.latents, command.model, command.parts.vae) == (latents, models / T2V_SMALL, models / VAE_21)
    assert len(desk.app.models.found.places) == 2
    lora = put(tmp_path / "loras", LORA_SMALL) / LORA_SMALL
    drop(desk, lora)
    desk.qtbot.waitUntil(lambda: desk.app.models.library.use().loras == (LoraUse(lora),))


def test_the_dialog_names_a_folder_and_remembers_where(desks: Desks, models: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    desk.app.window.open_models()
    desk.click(desk.child(QPushButton, "addFolder"))
    dialog = desk.child(QFileDialog, "modelsDialog")
    assert dialog.fileMode() is QFileDialog.FileMode.Directory
    dialog.setDirectory(str(models.parent))
    dialog.selectFile(str(models))
    desk.qtbot.waitUntil(lambda: dialog.selectedFiles() == [str(models)])
    dialog.accept()
    desk.qtbot.waitUntil(
        lambda: desk.app.models.library.standing is Standing.READY and not desk.app.models.library.is_whole
    )
    assert [place.path for place in desk.app.models.found.places] == [models]
    assert desk.app.settings.models_folder == str(models.parent)


def test_escape_closes_the_page_and_only_then_stops_the_job(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0.1))
    window = desk.app.window
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    window.panel.focus_prompt()
    desk.press(Qt.Key.Key_M, CONTROL)
    assert window.models.isVisible()
    desk.submit(steps=50)
    desk.qtbot.waitUntil(lambda: desk.app.job.is_busy)
    assert not window.models.isVisible(), "the picture that is coming is to be seen"
    desk.press(Qt.Key.Key_M, CONTROL)
    desk.press(Qt.Key.Key_Escape)
    assert not window.models.isVisible()
    assert desk.app.job.phase not in (Phase.CANCELLING, Phase.CANCELLED)
    assert desk.child(QPushButton, "models").hasFocus()
    desk.press(Qt.Key.Key_Escape)
    desk.wait_for(Phase.CANCELLED)


def test_tab_goes_through_the_page_from_top_to_bottom(desks: Desks, tmp_path: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    window = desk.app.window
    search(desk, put(tmp_path / "models", *WHOLE, LORA_SMALL))
    desk.app.models.library.add_lora(tmp_path / "models" / LORA_SMALL)
    assert not desk.child(QPushButton, "addLora").isEnabled()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    close = next(each for each in window.models.findChildren(QToolButton) if "Close" in each.accessibleName())
    close.setFocus()
    seen: list[QWidget] = []
    while (focused := QApplication.focusWidget()) is not None and window.models.isAncestorOf(focused):
        seen.append(focused)
        QTest.keyClick(window.windowHandle(), Qt.Key.Key_Tab)
        assert len(seen) < 30
    names = [each.objectName() or each.accessibleName() for each in seen]
    assert names == [
        "Close the models", f"Look no more in {tmp_path / 'models'}",
        "addFolder", "addFile", "Look again", "model", "weights", "vae", "text_encoder", "Strength of anime_1.3B",
        "Do without anime_1.3B", "foundList",
    ]  # fmt: skip
    tops = [each.mapTo(window.models, QPoint(0, 0)).y() for each in seen]
    assert tops == sorted(tops)


@pytest.mark.parametrize("size", [SMALLEST_SIZE, QSize(1280, 800), QSize(853, 432) - FRAME])
def test_nothing_is_cut_at_any_size(desks: Desks, tmp_path: Path, size: QSize) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    window = desk.app.window
    folder = put(tmp_path / LONG_NAME, T2V_14B, HIGH, LOW, LORA_14B, REFUSED)
    long = folder / "diffusion_models" / f"{LONG_NAME}.safetensors"
    (folder / T2V_14B).rename(long)
    search(desk, folder, tmp_path / "not there")
    choose(desk, "model", LONG_NAME)
    desk.app.models.library.add_lora(folder / LORA_14B)
    window.fit_into(size + FRAME)
    desk.qtbot.wait(50)
    page = window.models
    assert window.rect().contains(page.geometry())
    for widget in page.findChildren(QWidget):
        if not widget.isVisible() or isinstance(widget.parentWidget(), QListView | QComboBox | QDoubleSpinBox):
            continue
        left = widget.mapTo(page, QPoint(0, 0)).x()
        assert left >= 0, widget
        assert left + widget.width() <= page.width(), (widget, widget.objectName())
        if isinstance(widget, QLabel) and widget.wordWrap():
            assert widget.height() >= widget.heightForWidth(widget.width()), widget.text()


def test_an_open_list_is_left_alone_while_files_are_found(desks: Desks, models: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    desk.app.window.open_models()
    list_of = box(desk, "model")
    list_of.showPopup()
    search(desk, models)
    assert list_of.view().isVisible()
    assert list_of.count() == 1
    list_of.hidePopup()
    desk.qtbot.waitUntil(lambda: list_of.count() == 2)
    assert list_of.currentIndex() == 1


def test_the_page_takes_the_theme(desks: Desks, models: Path) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    search(desk, put(models, REFUSED))
    files = desk.child(QListView, "foundList")
    files.scrollToBottom()
    for appearance in (Appearance.LIGHT, Appearance.DARK):
        desk.app.theme.choose(appearance)
        image = files.viewport().grab().toImage()
        seen = {image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())}
        assert desk.app.theme.colours.danger in seen, "the reason of a refused file"


def test_the_real_engine_makes_a_video_with_what_was_chosen(desks: Desks, tmp_path: Path) -> None:
    """Files and parts by their paths, in a small model of another shape than the embedded one."""

    def load() -> tuple[JobRunner, AllocatorSource | None]:
        from engine.engine import Engine

        return Engine(tmp_path / "jobs"), None

    desk = desks.open(load=load, model=EMBEDDED_MODEL)
    folder = build_tiny_model(tmp_path / "tiny")
    (folder / "apart").mkdir()
    (folder / "Wan2.1_VAE.safetensors").rename(folder / "apart" / "vae.safetensors")
    (folder / "Wan2.1_VAE.json").rename(folder / "apart" / "vae.json")
    search(desk, folder)
    assert desk.app.models.library.standing is Standing.READY
    desk.submit(width=64, height=64, frames=5, steps=1)
    desk.qtbot.waitUntil(lambda: not desk.app.job.is_busy, timeout=120_000)
    assert desk.app.job.failure is None
    assert (desk.folder / "out.mp4").stat().st_size > 0
