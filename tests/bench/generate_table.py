"""The report of `generate` as tables for people."""

from statistics import median
from typing import Any

from tests.bench.decode_table import Rows, said

MIB, GIB, GB, PERCENT = 2**20, 2**30, 1e9, 0.01
EMBEDDED_COLUMNS = (
    "way", "resident", "tokens", "seconds", "x plain", "in pairs", "live MiB", "predicted MiB", "max diff",
    "equal to the bit", "copies s", "hidden %",
)  # fmt: skip
SAMPLE_COLUMNS = ("solver", "steps", "cache", "seconds", "x off", "passes reused", "max diff", "relative diff")
SHAPE_COLUMNS = (
    "model", "weights", "clip", "way", "resident", "tokens", "seconds", "TFLOP/s", "predicted GiB", "allocated GiB",
    "reserved GiB", "held", "copied GB", "hidden %", "relative diff", "equal to the bit",
)  # fmt: skip
YES_OR_NO = {True: "yes", False: "no", None: "-"}


def embedded_rows(report: dict[str, Any]) -> Rows:
    """A row for every way."""
    return [EMBEDDED_COLUMNS, *(embedded_row(name, way) for name, way in report["ways"].items())]


def embedded_row(name: str, way: dict[str, Any]) -> tuple[str, ...]:
    """Figures by `EMBEDDED_COLUMNS`."""
    twin = way["twin"]
    return (
        name,
        str(way["resident_blocks"]),
        said(way["chunk_tokens"], "d", 1) if way["chunk_tokens"] is None else str(way["chunk_tokens"]),
        said(way["median_seconds"], ".3f"),
        said(way["ratio"], ".3f"),
        said(way["ratio_in_pairs"], ".3f"),
        said(way["counted_bytes"], ".1f", MIB),
        said(way["predicted_bytes"], ".1f", MIB),
        said(way["largest_difference"], ".1e"),
        "-" if twin is None else f"{twin}: {YES_OR_NO[way['is_twin']]}",
        said(way["copying_seconds"], ".4f"),
        said(way["hidden_share"], ".0f", PERCENT),
    )


def sample_rows(report: list[dict[str, Any]]) -> Rows:
    """A row for every sample."""
    return [SAMPLE_COLUMNS, *map(sample_row, report)]


def sample_row(found: dict[str, Any]) -> tuple[str, ...]:
    """Figures by `SAMPLE_COLUMNS`."""
    return (
        found["solver"],
        str(found["steps"]),
        str(found["threshold"] or "off"),
        said(found["seconds"], ".2f"),
        said(found["ratio"], ".3f"),
        f"{found['reused']} of {found['passes']}",
        said(found["largest_difference"], ".1e"),
        said(found["relative_difference"], ".1e"),
    )


def shape_rows(report: list[dict[str, Any]]) -> Rows:
    """A row for every budget and peer."""
    return [SHAPE_COLUMNS, *map(shape_row, report)]


def shape_row(found: dict[str, Any]) -> tuple[str, ...]:
    """Figures by `SHAPE_COLUMNS`; without a time the reason stands in its place."""
    seconds = median(found["seconds"]) if "seconds" in found else None
    speed = found["tflop"] / seconds if seconds and "tflop" in found else None
    resident = f"{found['resident_blocks']} of {found['blocks']}" if "blocks" in found else "-"
    return (
        found["model"],
        found["form"],
        found["clip"],
        f"{found['budget_gib']:g} GiB" if "budget_gib" in found else found["way"],
        resident,
        str(found.get("chunk_tokens", "-")),
        reason_of(found) if seconds is None else said(seconds, ".2f"),
        said(speed, ".1f"),
        said(found.get("predicted_peak_bytes"), ".2f", GIB),
        said(found.get("allocated_bytes"), ".2f", GIB),
        said(found.get("reserved_bytes"), ".2f", GIB),
        YES_OR_NO[found.get("kept_budget")],
        said(found.get("copied_bytes"), ".1f", GB),
        said(found.get("hidden_share"), ".0f", PERCENT),
        said(found.get("relative_difference"), ".1e"),
        YES_OR_NO[found.get("is_same")],
    )


def reason_of(found: dict[str, Any]) -> str:
    """Why there is no time of it."""
    return f"as {found['same_as_gib']:g} GiB" if "same_as_gib" in found else found["left_out"]
