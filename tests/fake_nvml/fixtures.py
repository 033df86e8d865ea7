"""The stand-in driver as a pytest fixture; import it into a conftest or a test module."""

from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from tests.fake_nvml import driver


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driver.build(tmp_path_factory.mktemp("fake_nvml"))


@pytest.fixture
def fake_driver(fake_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[driver.FakeDriver]:
    """A driver with one card; fails the test that leaves a session open."""
    state = tmp_path / "nvml_state.txt"
    monkeypatch.setenv("FAKE_NVML_STATE", str(state))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    fake = driver.FakeDriver(fake_library, state)
    fake.write(driver.card("00000000:01:00.0"))
    fake.install()
    yield fake
    pynvml._nvmlGetFunctionPointer_cache.clear()
    assert fake.open_sessions() == 0, "an NVML session was left open"
