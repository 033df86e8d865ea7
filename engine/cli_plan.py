"""`python -m engine plan`: what every stage of a job would take before it starts, and how it would be cut."""

import argparse
import json
from dataclasses import asdict

from engine.cli_decode import add_decode_options, decode_settings
from engine.cli_events import compare_plans, describe_job, plan_fields
from engine.cli_generate import add_memory_options, memory_settings
from engine.cli_job import FINISHED, IMPOSSIBLE
from engine.cli_words import parse_bytes, parse_size
from engine.events import DecodePlanned, JobPlanned, Stage, StageOutlook
from engine.generation import NO_GUIDANCE
from engine.model_choice import WeightForm

# What the stages are called in JSON.
STAGE_NAMES = {Stage.TEXT: "text", Stage.IMAGE: "image", Stage.SAMPLE: "sampling", Stage.DECODE: "decode"}


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """The options of `plan`."""
    parser.add_argument("--size", type=parse_size, required=True, metavar="WxH")
    parser.add_argument("--frames", type=int, required=True)
    text = "a folder, or the name and form of a known one, e.g. wan2.1_t2v_14B:fp8_scaled; default: only decoding"
    parser.add_argument("--model", metavar="PATH | NAME:FORM", help=text)
    text = "form of the transformer's large weights; default: as NAME:FORM says, or as their file has them"
    parser.add_argument("--weights", type=WeightForm, choices=list(WeightForm), default=WeightForm.STORED, help=text)
    parser.add_argument("--picture", action="store_true", help="for a video that begins with a picture")
    parser.add_argument("--budget", type=parse_bytes, metavar="BYTES", help="on the card, e.g. 8GiB; default: no limit")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--json", action="store_true")
    add_memory_options(parser)
    add_decode_options(parser)


def show_plan(parsed: argparse.Namespace) -> int:
    """Print the plan of `plan`; returns the exit code, that of the impossible for a job that does not fit.

    Raises INVALID_SIZE, INVALID_FRAMES, INVALID_SETTING, and NO_PLAN_FITS for a decode alone.
    """
    import torch  # takes seconds, which nobody should wait for to read that an option is wrong

    from engine.plan_ahead import Question, plan_ahead, plan_decode_ahead

    decode, dtype = decode_settings(parsed, parsed.budget), getattr(torch, parsed.dtype)
    if parsed.model is None:
        return _show(None, plan_decode_ahead(parsed.size, parsed.frames, dtype, decode), as_json=parsed.json)
    question = Question(
        parsed.model, parsed.size, parsed.frames, parsed.weights, memory_settings(parsed), decode, parsed.budget,
        is_guided=_is_guided(parsed), has_picture=parsed.picture,
    )  # fmt: skip
    return _show(*plan_ahead(question, dtype), as_json=parsed.json)


def _is_guided(parsed: argparse.Namespace) -> bool:
    """Whether any step has a second pass. Guidance that is not said is the model's own, and that there is."""
    second = parsed.guidance if parsed.guidance_low is None else parsed.guidance_low
    return not parsed.guidance == second == NO_GUIDANCE


def _show(job: JobPlanned | None, decode: DecodePlanned, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({**plan_fields(decode), **({} if job is None else job_fields(job))}))
    else:
        print("\n".join([*([] if job is None else [describe_job(job)]), compare_plans(decode)]))
    return FINISHED if job is None or job.fits else IMPOSSIBLE


def job_fields(planned: JobPlanned) -> dict[str, object]:
    """The job's figures as JSON has them: its stages by name, with how sampling is cut among them."""
    stages: dict[str, dict[str, object]] = {STAGE_NAMES[stage.stage]: stage_fields(stage) for stage in planned.stages}
    stages[STAGE_NAMES[Stage.SAMPLE]] |= asdict(planned.sampling)
    return {"stages": stages, "fits": planned.fits, "resident_blocks": planned.sampling.resident_blocks}


def stage_fields(stage: StageOutlook) -> dict[str, object]:
    """The figures of one stage."""
    return {
        "predicted_peak_bytes": stage.predicted_peak_bytes,
        "overhead_bytes": stage.overhead_bytes,
        "smallest_bytes": stage.smallest_bytes,
        "budget_bytes": stage.budget_bytes,
        "fits": stage.fits,
    }
