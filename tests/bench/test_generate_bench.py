"""The benchmark of sampling through its own command line, on clips of few tokens; what a clock shows is no test."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from engine.model_choice import WeightForm
from engine.weights.card import network_bytes
from engine.weights.known import known_network
from tests.bench.__main__ import main
from tests.bench.generate_lane import TimedLane
from tests.bench.generate_networks import FORMS, MODELS, bytes_of, network_without_blocks, state_of
from tests.bench.generate_step import apart, latent_size

CPU = torch.device("cpu")
ROUNDS, ALLOWANCE = 2, 17 << 20  # of a kernel's partial results, which a CPU does not take
# Budgets in GiB of the tiny network: none fits, no block stays, some do, all do, and the same once more.
BUDGETS = (0.005, 0.0205, 0.022, 0.1, 0.2)


def bench(*arguments: str | Path) -> str:
    """What the command prints; in this process, since importing torch once more takes longer than what it measures."""
    command = ["bench", "generate", *map(str, arguments)]
    with patch.object(sys, "argv", command), contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main() == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What was printed, and the file."""
    file = tmp_path_factory.mktemp("bench") / "report.json"
    embedded = ("--size", "64x64x9", "--chunk", "5", "--resident", "2", "--repeats", str(ROUNDS), "--caches", "1")
    shapes = ("--device", "cpu", "--models", "tiny", "--sizes", "64x64x9", "--card-repeats", "2")
    printed = bench(*embedded, *shapes, "--budgets", *map(str, BUDGETS), "--markdown", "--json", file)
    return printed, json.loads(file.read_text("utf-8"))


@pytest.fixture(scope="module")
def shapes(measured: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = measured[1]["shapes"]
    return found


def test_every_way_gives_the_plain_result_and_swapping_changes_no_bit(measured: tuple[str, dict[str, Any]]) -> None:
    ways = measured[1]["embedded"]["ways"]
    assert list(ways) == ["plain", "streamed", "chunked", "swapped", "swapped, chunked"]
    for name, way in ways.items():
        assert way["relative_difference"] <= 1e-5, name
        assert way["is_twin"] is (True if "swapped" in name else None), name
        assert len(way["seconds"]) == ROUNDS
        assert min(way["seconds"]) > 0
    assert ways["plain"]["ratio"] == ways["plain"]["ratio_in_pairs"] == 1
    assert [way["resident_blocks"] for way in ways.values()] == [6, 6, 6, 2, 2]


def test_no_way_holds_more_than_was_predicted(measured: tuple[str, dict[str, Any]]) -> None:
    for name, way in measured[1]["embedded"]["ways"].items():
        if name != "plain":
            assert way["counted_bytes"] <= way["predicted_bytes"] <= 1.1 * way["counted_bytes"] + ALLOWANCE, name


def test_copies_are_timed_where_there_are_any(
    measured: tuple[str, dict[str, Any]], shapes: list[dict[str, Any]]
) -> None:
    ways = [*measured[1]["embedded"]["ways"].values(), *(found for found in shapes if "hidden_share" in found)]
    for way in ways:
        is_swapped = way["resident_blocks"] < way.get("blocks", 6)
        assert (way["copying_seconds"] is not None) is is_swapped
        assert way["copying_seconds"] is None or (way["copying_seconds"] > 0 and 0 <= way["hidden_share"] <= 1)


def test_a_cache_of_any_error_takes_over_what_it_may(measured: tuple[str, dict[str, Any]]) -> None:
    samples = measured[1]["samples"]
    assert [found["threshold"] for found in samples] == [0, 1] * 4
    for off, on in zip(samples[::2], samples[1::2], strict=True):
        assert off["reused"] == off["largest_difference"] == 0
        computed = -(-off["steps"] * 15 // 100) + 1  # the first steps and the last
        assert 0 < on["reused"] <= on["passes"] - 2 * computed
        assert on["relative_difference"] > 0


def test_budgets_are_cut_as_planned_and_agree(shapes: list[dict[str, Any]]) -> None:
    planned = [found for found in shapes if found["way"] == "planned" and found["form"] == "bf16"]
    assert [found["budget_gib"] for found in planned] == list(BUDGETS)
    assert planned[0]["left_out"].startswith("no_plan_fits")
    none, some, *every = (found["resident_blocks"] for found in planned[1:])
    assert none == 0 < some < 4
    assert every == [4, 4]
    assert planned[-1]["same_as_gib"] == BUDGETS[-2]
    assert [found["is_same"] for found in planned[1:-1]] == [None, True, True]
    assert all(found["predicted_peak_bytes"] <= found["budget_gib"] * 2**30 for found in planned[1:])
    eight_bits = [found for found in shapes if found["form"] == "fp8_scaled" and "seconds" in found]
    assert len(eight_bits) == 1


def test_diffusers_is_the_same_network(shapes: list[dict[str, Any]]) -> None:
    peers = {found["way"]: found for found in shapes if found["way"] != "planned"}
    assert {found["form"] for found in peers.values()} == {"bf16"}
    assert set(peers) == {"diffusers", "diffusers, offloaded"}
    assert 0 < peers["diffusers"]["relative_difference"] < 0.05  # bfloat16 all the way, with another rounding
    offloaded = peers["diffusers, offloaded"]
    assert "accelerate" in offloaded.get("left_out", "") or offloaded["relative_difference"] < 0.05


def test_the_tables_hold_every_row(measured: tuple[str, dict[str, Any]]) -> None:
    printed, report = measured
    tables = [table.splitlines() for table in printed.strip().split("\n\n")]
    assert [len(table) - 2 for table in tables] == [5, len(report["samples"]), len(report["shapes"])]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", ["1.3B", "14B"])
def test_random_networks_take_what_the_published_ones_do(model: str, form: WeightForm) -> None:
    assert bytes_of(model, form) == network_bytes(known_network(f"wan2.1_t2v_{model}"), form, 2)


def test_values_depend_on_names_alone() -> None:
    state = state_of(MODELS["tiny"], CPU, CPU)
    network, load = network_without_blocks(MODELS["tiny"], "bf16", CPU)
    for index in reversed(range(4)):
        load(index)
    own = network.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], value) for name, value in state.items())
    assert not torch.equal(own["blocks.0.ffn.0.weight"], own["blocks.1.ffn.0.weight"])


def copied(page: torch.Tensor, slot: torch.Tensor) -> None:
    slot.copy_(page)


def test_waiting_for_a_copy_is_what_is_not_hidden() -> None:
    lane, page, slot = TimedLane(CPU), torch.ones(1 << 24), torch.empty(1 << 24)
    lane.start(0, lambda: copied(page, slot))
    lane.arrive(0)
    times = lane.times()
    lane.close()
    assert torch.equal(slot, page)
    assert times.copying > 0
    assert times.waiting > 0.5 * times.copying
    lane.forget()
    assert lane.times().hidden_share is None


def test_how_far_apart() -> None:
    found = apart(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0]))
    assert found.largest == 4
    assert found.relative == pytest.approx(4 / 3)


@pytest.mark.parametrize("pixels", [(833, 480, 81), (832, 484, 81), (832, 480, 80), (0, 480, 81)])
def test_a_clip_that_is_no_whole_number_of_latents_is_refused(pixels: tuple[int, int, int]) -> None:
    assert latent_size((832, 480, 81)) == (21, 60, 104)
    with pytest.raises(ValueError, match="multiples of 8"):
        latent_size(pixels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_the_reason_is_said(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert "no CUDA card" in bench("--parts", "shapes", "--json", file)
    assert "no CUDA card" in json.loads(file.read_text("utf-8"))["left_out"]["shapes"]
