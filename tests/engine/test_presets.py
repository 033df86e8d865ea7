"""Every preset can be used as it stands, and the right one is found."""

import subprocess
import sys

import pytest

from engine.presets import defaults_for, read_presets
from engine.sampling.validation import check_frames, check_size

WAN_1_3B = {"dim": 1536, "num_layers": 30, "in_dim": 16}
WAN_14B = {"dim": 5120, "num_layers": 40, "in_dim": 16}
MINI = {"dim": read_presets()["mini"]["dim"], "num_layers": read_presets()["mini"]["layers"], "patch_size": [1, 4, 4]}


def test_models_are_told_apart() -> None:
    assert [defaults_for(config).name for config in (WAN_1_3B, WAN_14B, MINI, {"dim": 64, "num_layers": 2})] == [
        "wan2.1_t2v_1.3B", "wan2.1_t2v_14B", "mini", "other",
    ]  # fmt: skip


@pytest.mark.parametrize("config", [WAN_1_3B, WAN_14B, MINI, {}])
def test_defaults_are_valid(config: dict[str, int]) -> None:
    defaults = defaults_for(config)
    assert defaults.size_multiple == (32 if config is MINI else 16)
    check_size(defaults.width, defaults.height, defaults.size_multiple)
    check_frames(defaults.frames, 4)
    assert (defaults.width, defaults.height) in defaults.sizes
    for width, height in defaults.sizes:
        check_size(width, height, defaults.size_multiple)


def test_official_numbers() -> None:
    presets = read_presets()
    for name in ("wan2.1_t2v_1.3B", "wan2.1_t2v_14B"):
        entry = presets[name]
        assert (entry["steps"], entry["shift"], entry["guidance"], entry["frames"], entry["fps"]) == (50, 5, 5, 81, 16)


def test_presets_need_no_torch() -> None:
    code = "import sys, engine.presets, engine.sampling.validation, engine.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
