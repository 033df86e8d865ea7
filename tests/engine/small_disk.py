"""A disk of a few kilobytes for one process, where this system lets a test have one."""

import subprocess
from pathlib import Path

import pytest


def on_a_small_disk(folder: Path, size: str) -> list[str]:
    """What to put before a command so that `folder` is a disk of `size` (`48k`) for it, gone when it ends."""
    folder.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"', str(folder)]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    return mount
