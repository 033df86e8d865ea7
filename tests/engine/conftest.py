"""Fixtures of the engine's tests."""

from pathlib import Path

import pytest

from tests.engine.tiny_model import build_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole model of random weights; tests must not change it."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny-model"))
