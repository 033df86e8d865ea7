"""The engine knows no Qt and the window knows no torch: read from the imports of every file, and seen in a process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TORCH_PACKAGES = {"torch", "safetensors", "sentencepiece", "ftfy", "imageio_ffmpeg"}
# What the window may use of the engine: the surface, settings, checks and the driver probe.
TORCH_FREE_ENGINE = {
    "engine.cancel",
    "engine.canvas",
    "engine.card_presets",
    "engine.commands",
    "engine.errors",
    "engine.events",
    "engine.generation",
    "engine.attention.availability",
    "engine.memory.vram",
    "engine.model_choice",
    "engine.weights.complete",
    "engine.weights.identify",
    "engine.weights.inspect",
    "engine.weights.model_files",
    "engine.weights.names",
    "engine.weights.other_files",
    "engine.weights.runnable",
    "engine.weights.provenance",
    "engine.weights.families",
    "engine.output.interrupted",
    "engine.output.job_folder",
    "engine.pictures.clips",
    "engine.pictures.fit",
    "engine.pictures.read",
    "engine.pictures.road",
    "engine.presets",
    "engine.sampling.validation",
}
WORKER_ONLY = {"engine.engine", "engine.memory.allocator"}


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports_of(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every imported module by its full name, wherever in the file the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what they name"
            yield node.module or "", node
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def modules_in(file: Path) -> set[str]:
    return {name for name, _ in imports_of(ast.parse(file.read_text("utf-8")))}


def top_level_modules(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    inner = {id(node) for scope in ast.walk(tree) if isinstance(scope, ast.FunctionDef) for node in ast.walk(scope)}
    return {name for name, node in imports_of(tree) if id(node) not in inner}


@pytest.mark.parametrize("file", files_of("engine"), ids=str)
def test_engine_knows_no_qt(file: Path) -> None:
    assert not {name for name in modules_in(file) if name.split(".")[0] in {"PySide6", "shiboken6", "desktop"}}


@pytest.mark.parametrize("file", files_of("desktop"), ids=str)
def test_window_knows_no_torch(file: Path) -> None:
    modules = modules_in(file)
    assert not {name for name in modules if name.split(".")[0] in TORCH_PACKAGES}
    is_worker = file.relative_to(ROOT) == Path("desktop/worker.py")
    allowed = TORCH_FREE_ENGINE | (WORKER_ONLY if is_worker else set())
    from_engine = {name for name in modules if name.startswith("engine.") and name not in allowed}
    assert {name for name in from_engine if name.rpartition(".")[0] not in allowed} <= packages_of(allowed)
    assert not top_level_modules(file) & WORKER_ONLY


def packages_of(modules: set[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in modules}


@pytest.mark.parametrize("file", files_of("desktop/state"), ids=str)
def test_state_knows_no_widgets(file: Path) -> None:
    forbidden = ("PySide6.QtWidgets", "desktop.views", "desktop.app", "desktop.theme")
    assert not {name for name in modules_in(file) if name.startswith(forbidden)}


@pytest.mark.parametrize("file", files_of("desktop/views"), ids=str)
def test_views_do_not_reach_the_engine_thread(file: Path) -> None:
    assert not modules_in(file) & {"desktop.worker", "desktop.bridge", "desktop.threads", "desktop.app"}


def test_the_window_stands_before_torch_is_loaded() -> None:
    """The imports above may pull in others; only a process shows what a start really loads."""
    code = "import sys, desktop.app, desktop.demo, desktop.worker; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "False"
