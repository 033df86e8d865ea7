"""The benchmark of decoders through its own command line, on the smallest picture that takes two tiles a peer."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.plan import plan
from engine.models.video_vae import VideoVaeConfig
from tests.bench.decode_case import latent_shape
from tests.bench.decode_measure import difference

ROOT = Path(__file__).resolve().parents[2]
SIZE, FRAMES, DIM = (288, 40), 5, 4
EXACT = ("automatic", "strips-32", "frames-32", "whole", "plain", "diffusers")
TILED = ("reference", "diffusers-tiled")
PEAK_GAP = 1.05


def bench(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "tests.bench", "decode", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What was printed, and the file."""
    file = tmp_path_factory.mktemp("bench") / "report.json"
    small = ("--size", "288x40", "--frames", str(FRAMES), "--dim", str(DIM), "--repeats", "2", "--device", "cpu")
    printed = bench(*small, "--markdown", "--profile", "--json", file)
    return printed, json.loads(file.read_text("utf-8"))


@pytest.mark.slow
def test_exact_decoders_are_exact_and_tiles_are_not(measured: tuple[str, dict[str, Any]]) -> None:
    decoders = measured[1]["decoders"]
    assert set(decoders) == {*EXACT, *TILED}
    for name, found in decoders.items():
        off = found["difference"]["largest"]
        assert off <= 1e-5 if name in EXACT else off > 1e-3, name


@pytest.mark.slow
def test_what_is_counted_is_what_the_planner_says(measured: tuple[str, dict[str, Any]]) -> None:
    decoders = measured[1]["decoders"]
    untiled = decoders["diffusers"]["counted"]["tflop"]
    for name in ("automatic", "strips-32", "frames-32", "whole", "reference"):
        found = decoders[name]
        assert 1 <= found["predicted_peak_bytes"] / found["counted"]["card_bytes"] <= PEAK_GAP, name
    for name in EXACT:
        assert decoders[name]["counted"]["tflop"] == pytest.approx(untiled, rel=1e-6), name
    for name in TILED:
        assert decoders[name]["counted"]["tflop"] > 1.1 * untiled


@pytest.mark.slow
def test_everything_is_timed_and_held_to_its_limit(measured: tuple[str, dict[str, Any]]) -> None:
    printed, report = measured
    assert all(len(found["seconds"]) == 2 and min(found["seconds"]) > 0 for found in report["decoders"].values())
    assert report["decoders"]["diffusers"]["ratio"] == report["decoders"]["diffusers"]["ratio_in_pairs"] == 1
    assert all(0 < found["time_spent"]["convolution_share"] < 1 for found in report["decoders"].values())
    for limit in report["limits"]:
        seconds = [sum(report["decoders"][limit[end]]["seconds"]) for end in ("decoder", "of")]
        assert limit["ratio"] == pytest.approx(seconds[0] / seconds[1])  # the median of two is their mean
        assert limit["holds"] is (limit["ratio"] <= limit["most"])
    assert printed.count("holds: ") + printed.count("does not hold: ") == len(report["limits"]) == 4
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == list(report["decoders"])
    assert len({row.count("|") for row in rows}) == 1


@pytest.mark.slow
def test_predictions_are_the_planners(tmp_path: Path) -> None:
    file = tmp_path / "predicted.json"
    printed = bench("--predict", "--json", file)
    rows = json.loads(file.read_text("utf-8"))
    assert len(rows) == 15
    assert len(printed.splitlines()) == 16
    config = VideoVaeConfig()
    settings = DecodeSettings(DecodeMode.WHOLE, chunk_latents=1)
    whole = plan(latent_shape(config, (1280, 720), 61), config, torch.bfloat16, settings)
    row = next(row for row in rows if row["clip"] == "1280x720, 61 frames" and row["decode"] == "whole")
    assert row["peak GiB"] == f"{whole.predicted_peak_bytes / 2**30:.2f}"
    for smallest, untiled, tiles in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert float(smallest["peak GiB"]) < float(tiles["peak GiB"]) < float(untiled["peak GiB"])
        assert float(smallest["ratio"]) == float(untiled["ratio"]) == 1 < float(tiles["ratio"])


def test_a_difference_is_told_of_what_is_seen() -> None:
    exact = torch.zeros(3, 1, 2, 2)
    off = exact.clone()
    off[0, 0, 0, 0] = 7  # clamped to 1
    found = difference(off, exact)
    assert found.largest == 1
    assert found.mean == pytest.approx(1 / 12)
    assert found.psnr == pytest.approx(10 * math.log10(4 * 12))
    assert difference(exact, exact).psnr is None


@pytest.mark.parametrize(("size", "frames"), [((289, 40), 5), ((288, 44), 5), ((288, 40), 6), ((0, 40), 5)])
def test_a_clip_that_is_no_whole_number_of_latents_is_refused(size: tuple[int, int], frames: int) -> None:
    assert latent_shape(VideoVaeConfig(), SIZE, FRAMES) == (2, 5, 36)
    with pytest.raises(ValueError, match="multiples of 8"):
        latent_shape(VideoVaeConfig(), size, frames)
