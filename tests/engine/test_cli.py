"""The command line in processes of its own: MP4s, plans and exit codes."""

import json
from pathlib import Path

import pytest

from engine.cli import main
from tests.engine.cli_process import engine, events_of, generate_arguments
from tests.engine.video_reading import read_frames, read_tag


def test_the_command_line_makes_a_video(tiny_model: Path, tmp_path: Path) -> None:
    done = engine(*generate_arguments(tiny_model, tmp_path), "--json", "--seed", "5", "--solver", "euler")
    assert done.returncode == 0, done.stderr
    events = list(events_of(done.stdout.splitlines()))
    assert (events[0]["event"], events[-1]["event"]) == ("JobStarted", "JobFinished")
    assert read_frames(tmp_path / "clip.mp4", 64, 48).shape == (9, 48, 64, 3)
    comment = json.loads(read_tag(tmp_path / "clip.mp4", "comment") or "")
    assert comment["command"]["seed"] == 5
    assert comment["command"]["solver"] == "euler"


def test_plain_output_is_for_people(tiny_model: Path, tmp_path: Path) -> None:
    done = engine(*generate_arguments(tiny_model, tmp_path))
    assert (done.returncode, done.stdout) == (0, "")
    assert "clip.mp4" in done.stderr.splitlines()[-1]
    assert "sampling" in done.stderr


def test_impossible_requests_end_with_2(tiny_model: Path, tmp_path: Path) -> None:
    base = generate_arguments(tiny_model, tmp_path)
    for extra, words in (
        (["--size", "65x48"], "Nearest: 64x48"),
        (["--frames", "31"], "Nearest: 29, 33"),
        (["--budget", "1KiB"], "the smallest budget that would do"),
        (["--budget", "much"], "'much' is not a number of bytes, e.g. 8GiB"),
        (["--size", "0x0"], "multiples of 2, from 16 to 8192. Nearest: 16x16"),
        (["--size", "9000x9000"], "from 16 to 8192. Nearest: 8192x8192"),
    ):
        done = engine(*base, *extra)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_failures_end_with_1(tiny_model: Path, tmp_path: Path) -> None:
    missing = engine("decode", tmp_path / "none.safetensors", "--model", tiny_model, "-o", tmp_path / "o.mp4")
    assert missing.returncode == 1
    assert "none.safetensors cannot be used" in missing.stderr
    no_model = engine(*generate_arguments(tmp_path / "nowhere", tmp_path))
    assert no_model.returncode == 1
    assert "nowhere" in no_model.stderr


def test_the_smallest_budget_that_is_named_is_enough(tiny_model: Path, tmp_path: Path) -> None:
    base = generate_arguments(tiny_model, tmp_path)
    refused = engine(*base, "--budget", "1MiB")
    assert refused.returncode == 2
    named = refused.stderr.strip().rstrip(".").rpartition("would do is ")[2]
    done = engine(*base, "--budget", named)
    assert done.returncode == 0, done.stderr


def planned(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    assert main(["plan", *map(str, arguments)]) == code
    return capsys.readouterr().out


def test_plan_for_a_program_and_for_people(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--size", "1280x720", "--frames", "61")
    plain = json.loads(planned(capsys, *size, "--json"))
    tight = json.loads(planned(capsys, *size, "--json", "--budget", "1.2GiB"))
    assert tight["predicted_peak_bytes"] <= 1.2 * 2**30 < plain["predicted_peak_bytes"]
    assert tight["strips"] > 1
    assert f"{tight['strips']} strips of {tight['strip_rows']} rows" in planned(capsys, *size, "--budget", "1.2GiB")
    own = json.loads(planned(capsys, "--size", "64x48", "--frames", "9", "--model", tiny_model, "--json"))
    assert own["predicted_peak_bytes"] < plain["predicted_peak_bytes"] / 50
    assert main(["plan", *size, "--budget", "1MiB"]) == 2
    assert "the smallest budget that would do" in capsys.readouterr().err


KNOWN = ("--model", "wan2.1_t2v_14B:fp8_scaled", "--size", "1280x720", "--frames", "81")


def test_plan_of_a_whole_job_of_a_model_that_nobody_has_yet(capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads(planned(capsys, *KNOWN, "--budget", "8GiB", "--json"))
    assert plan["fits"]
    assert set(plan["stages"]) == {"text", "sampling", "decode"}
    assert all(stage["predicted_peak_bytes"] <= 8 * 2**30 for stage in plan["stages"].values())
    assert 0 < plan["resident_blocks"] == plan["stages"]["sampling"]["resident_blocks"] < 40
    tight = json.loads(planned(capsys, *KNOWN, "--budget", "4.5GiB", "--json"))
    assert tight["fits"]
    assert tight["resident_blocks"] < plan["resident_blocks"]


def test_what_does_not_fit_is_said_with_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads(planned(capsys, *KNOWN, "--budget", "3GiB", "--json", code=2))
    sampling = plan["stages"]["sampling"]
    assert not plan["fits"]
    assert not sampling["fits"]
    assert plan["stages"]["text"]["fits"]
    needed = sampling["predicted_peak_bytes"] + sampling["overhead_bytes"]
    assert sampling["predicted_peak_bytes"] < needed == sampling["smallest_bytes"] <= 4.5 * 2**30
    enough = json.loads(planned(capsys, *KNOWN, "--budget", f"{needed + 2**20}", "--json"))
    assert enough["fits"]
    said = planned(capsys, *KNOWN, "--budget", "3GiB", code=2)
    assert "the budget is 3.00 GiB" in said
    named = said.partition(" would do")[0].rpartition(", ")[2]
    assert "does not fit" not in planned(capsys, *KNOWN, "--budget", named)


def test_guidance_of_either_transformer_is_planned_for(capsys: pytest.CaptureFixture[str]) -> None:
    pair = ("--model", "wan2.2_t2v_A14B:fp8_scaled", *KNOWN[2:], "--json")

    def tflop(*options: str) -> float:
        sampling = json.loads(planned(capsys, *pair, *options))["stages"]["sampling"]
        return float(sampling["tflop"])

    both, none = tflop(), tflop("--guidance", "1")
    assert both == pytest.approx(2 * none)
    assert [tflop("--guidance", first, "--guidance-low", second) for first, second in ("13", "31", "11")] == [
        both, both, none,
    ]  # fmt: skip


def test_plan_takes_only_what_moves_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--steps=4", "--times=1000,500", "--shift=3", "--solver=euler", "--boundary=0.9", "--compile"):
        with pytest.raises(SystemExit):
            main(["plan", *KNOWN, option])
        assert f"unrecognized arguments: {option}" in capsys.readouterr().err
    plain = json.loads(planned(capsys, *KNOWN, "--json"))["stages"]["sampling"]
    for option in ("--attention=sageattn", "--resident-blocks=3", "--chunk-tokens=300", "--joint-guidance",
                   "--step-cache=0.1", "--guidance=1"):  # fmt: skip
        assert json.loads(planned(capsys, *KNOWN, "--json", option))["stages"]["sampling"] != plain, option


def test_a_picture_is_refused_for_a_model_of_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, *KNOWN, "--picture", code=2) == ""
    assert main(["plan", *KNOWN, "--picture"]) == 2
    assert "this model makes videos of text alone" in capsys.readouterr().err
    plan = json.loads(planned(capsys, "--model", "wan2.2_ti2v_5B", *KNOWN[2:], "--picture", "--json"))
    assert "image" in plan["stages"]


def test_models_of_pictures_have_a_stage_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("wan2.1_i2v_14B", "wan2.1_flf2v_14B", "wan2.2_i2v_A14B"):
        plan = json.loads(planned(capsys, "--model", name, *KNOWN[2:], "--budget", "12GiB", "--json"))
        assert 0 < plan["stages"]["image"]["predicted_peak_bytes"] <= 12 * 2**30


def test_a_model_that_is_neither_there_nor_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "wan3", *KNOWN[2:]]) == 2
    assert "wan2.1_t2v_14B" in capsys.readouterr().err
