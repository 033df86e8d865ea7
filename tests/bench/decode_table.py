"""The report of `decode`, as data for a file, as a table for people, and against the limits it is held to."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

import diffusers
import torch

from tests.bench.decode_case import Case
from tests.bench.decode_predict import said_cut
from tests.bench.decode_rounds import Measured, Rounds

Rows = list[tuple[str, ...]]
PEER = "diffusers"
# (decoder, the one it is held to, how many times that one's seconds it may take), on a CPU
LIMITS = (
    ("automatic", PEER, 1.0),
    ("automatic", "reference", 0.55),
    ("strips-32", "plain", 1.3),
    ("frames-32", "plain", 1.3),
)
COLUMNS = (
    "decoder",
    "cut",
    "seconds",
    "x diffusers",
    "in pairs",
    "peak GiB",
    "host GiB",
    "TFLOP",
    "max diff",
    "mean diff",
    "PSNR",
)
ON_CARD_COLUMNS = ("allocated GiB", "reserved GiB")
SHARE_COLUMN = "convolution %"


def report_of(rounds: Rounds, case: Case, repeats: int) -> dict[str, Any]:
    """Everything that was measured, as JSON can hold it."""
    peer = rounds.measured.get(PEER)
    return {
        "machine": machine(case.network.device),
        "case": {
            "width": case.exact.shape[3],
            "height": case.exact.shape[2],
            "frames": case.exact.shape[1],
            "dim": case.network.config.dim,
            "dtype": str(case.network.dtype).removeprefix("torch."),
            "repeats": repeats,
        },
        "decoders": {name: decoder_report(measured, peer) for name, measured in rounds.measured.items()},
        "left_out": rounds.left_out,
        "limits": limits(rounds.measured) if case.network.device.type == "cpu" else [],
    }


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), **versions}


def decoder_report(measured: Measured, peer: Measured | None) -> dict[str, Any]:
    """One decoder's figures; ratios are of seconds, to the untiled decode of `diffusers`."""
    spent = measured.time_spent
    assert measured.difference is not None, "every round makes a picture"
    return {
        "cut": None if measured.plan is None else said_cut(measured.plan),
        "predicted_peak_bytes": None if measured.plan is None else measured.plan.predicted_peak_bytes,
        "seconds": measured.seconds,
        "median_seconds": median(measured.seconds),
        "ratio": None if peer is None else median(measured.seconds) / median(peer.seconds),
        "ratio_in_pairs": None if peer is None else paired(measured, peer),
        "counted": None if measured.counted is None else asdict(measured.counted),
        "on_card": None if measured.on_card is None else asdict(measured.on_card),
        "difference": asdict(measured.difference),
        "time_spent": None if spent is None else {**asdict(spent), "convolution_share": spent.convolution_share},
    }


def paired(measured: Measured, peer: Measured) -> float:
    """The median over rounds of the ratio inside a round."""
    return median(own / others for own, others in zip(measured.seconds, peer.seconds, strict=True))


def limits(measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """Every limit whose decoders both ran, on the ratio of median seconds."""
    found = []
    for name, other, most in LIMITS:
        if name in measured and other in measured:
            ratio = median(measured[name].seconds) / median(measured[other].seconds)
            found.append({"decoder": name, "of": other, "ratio": ratio, "most": most, "holds": ratio <= most})
    return found


def limit_lines(report: dict[str, Any]) -> list[str]:
    """The limits as sentences."""
    return [
        f"{'holds' if limit['holds'] else 'does not hold'}: "
        f"{limit['decoder']} takes {limit['ratio']:.3f} x the seconds of {limit['of']}, at most {limit['most']}"
        for limit in report["limits"]
    ]


def report_rows(report: dict[str, Any]) -> Rows:
    """The table of a report, its heading first; columns that nothing was measured for are not there."""
    decoders = report["decoders"]
    heading: tuple[str, ...] = COLUMNS
    if any(found["on_card"] for found in decoders.values()):
        heading += ON_CARD_COLUMNS
    if any(found["time_spent"] for found in decoders.values()):
        heading += (SHARE_COLUMN,)
    cells = [{"decoder": name, **cells_of(found)} for name, found in decoders.items()]
    return [heading, *(tuple(row[column] for column in heading) for row in cells)]


def cells_of(found: dict[str, Any]) -> dict[str, str]:
    """One decoder's figures by column."""
    counted, card, spent = (found[part] or {} for part in ("counted", "on_card", "time_spent"))
    off = found["difference"]
    return {
        "cut": found["cut"] or "",
        "seconds": said(found["median_seconds"], ".2f"),
        "x diffusers": said(found["ratio"], ".3f"),
        "in pairs": said(found["ratio_in_pairs"], ".3f"),
        "peak GiB": said(counted.get("card_bytes"), ".3f", 2**30),
        "host GiB": said(counted.get("host_bytes"), ".3f", 2**30),
        "TFLOP": said(counted.get("tflop"), ".3f"),
        "max diff": said(off["largest"], ".1e"),
        "mean diff": said(off["mean"], ".1e"),
        "PSNR": "equal" if off["psnr"] is None else f"{off['psnr']:.1f} dB",
        "allocated GiB": said(card.get("allocated_bytes"), ".3f", 2**30),
        "reserved GiB": said(card.get("reserved_bytes"), ".3f", 2**30),
        SHARE_COLUMN: said(spent.get("convolution_share"), ".1f", 0.01),
    }


def said(figure: float | None, form: str, unit: float = 1) -> str:
    """`figure` in `unit`s, a dash where there is none."""
    return "-" if figure is None else format(figure / unit, form)


def text(rows: Rows) -> str:
    """Columns side by side for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Rows) -> str:
    """The same for a README."""
    heading, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (heading, ("---",) * len(heading), *body))
