"""Fixtures of the desktop tests."""

from tests.fake_nvml.fixtures import fake_driver, fake_library

__all__ = ["fake_driver", "fake_library"]
