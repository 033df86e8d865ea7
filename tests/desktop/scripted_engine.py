"""A double for the engine's side of the contract: replays events and paints a ball into the canvas."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.cancel import CancelFlag, Cancelled
from engine.canvas import Canvas, DirtyRows
from engine.commands import (
    BackendState,
    Command,
    ContinueVideo,
    DecodeLatents,
    DecodeMode,
    GenerateVideo,
    JobOutlook,
    PlanJob,
)
from engine.errors import EngineError, ErrorCode
from engine.events import (
    DecodeFigures,
    DecodePlanned,
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobPlanned,
    JobStarted,
    LatentsSaved,
    SamplingFigures,
    SamplingKept,
    Stage,
    StageFinished,
    StageOutlook,
    StageProgressed,
    StageStarted,
)
from engine.generation import AttentionBackend

Emit = Callable[[Event], None]
MIB = 1 << 20
HELD = 500 * MIB  # what the process takes before a stage begins
BUDGET = 1024 * MIB
SMALLEST = 112 * MIB
LATENTS = "latents.safetensors"


BACKENDS = (
    BackendState(AttentionBackend.SDPA, is_available=True),
    BackendState(AttentionBackend.FLASH_ATTN, is_available=True),
    BackendState(AttentionBackend.SAGEATTN, is_available=False, reason="package_missing", detail="sageattention"),
    BackendState(AttentionBackend.SAGEATTN_3, is_available=False, reason="older_card", detail="12.0"),
    BackendState(AttentionBackend.SAGEATTN_3_FP8, is_available=False, reason="not_offered", detail="sageattn"),
    BackendState(AttentionBackend.SAGEATTN_3_FP4, is_available=False, reason="phase_of_the_moon"),
)


@dataclass
class Script:
    """How the double behaves.

    `hold_at_row` stops before that row is decoded, until the job is cancelled; `fail_with` fails after decoding.
    The model has so many `blocks` of `block_bytes`; its state is kept after every so many steps, 0 for never.
    """

    sample_seconds: float = 0.005
    strip_seconds: float = 0.002
    strip_rows: int = 32
    frame_major: bool = False
    hold_at_row: int | None = None
    fail_with: ErrorCode | None = None
    plan_seconds: float = 0.0
    block_bytes: int = 4 * MIB
    blocks: int = 40
    keep_every: int = 0
    backends: tuple[BackendState, ...] = BACKENDS
    compile_reason: str = "no_compiler"


class ScriptedEngine:
    """Runs jobs as the real engine reports them."""

    def __init__(self, folder: Path, script: Script | None = None) -> None:
        self.folder = folder
        self.script = script or Script()
        self.commands: list[Command] = []
        self.plans: list[PlanJob] = []
        self.kept_steps = 0

    def plan_job(self, request: PlanJob) -> JobOutlook:
        """Strips that get thinner with the budget; odd tiles, and blocks that there are not, are refused."""
        self.plans.append(request)
        time.sleep(self.script.plan_seconds)
        command = request.command
        decode = command.decode
        if decode.tiling.tile_width % 8:
            width = decode.tiling.tile_width
            raise EngineError(ErrorCode.INVALID_SETTING, name="tile_width", value=width, allowed="multiples of 8")
        residents = command.sampling.resident_blocks
        if residents is not None and residents > self.script.blocks:
            allowed = f"0 to {self.script.blocks}"
            raise EngineError(ErrorCode.INVALID_SETTING, name="resident_blocks", value=residents, allowed=allowed)
        budget = command.budget_bytes or BUDGET
        held_to = decode.budget_bytes or budget
        if held_to < SMALLEST:
            raise EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=held_to, smallest_bytes=SMALLEST)
        rows = decode.strip_rows or min(command.height, held_to // SMALLEST * 8)
        planned = figures_for(command.height, rows, min(600 * MIB, rows * 14 * MIB))
        if decode.mode is DecodeMode.REFERENCE and planned.reference is not None:
            planned = replace(planned, plan=planned.reference)
        planned = replace(planned, budget_bytes=held_to)
        job = job_planned(command, budget, planned.plan.predicted_peak_bytes, self.script)
        size = command.width, command.height
        return JobOutlook(job, planned, *size, self.script.backends, self.script.compile_reason, HELD)

    def run(self, command: Command, emit: Emit, canvas: Canvas, cancel: CancelFlag) -> None:
        self.commands.append(command)
        self.kept_steps = 0
        latents: list[Path] = []
        try:
            self._run(command, emit, canvas, cancel, latents)
        except Cancelled:
            emit(JobCancelled(latents[0] if latents else None, self.kept_steps))

    def _run(self, command: Command, emit: Emit, canvas: Canvas, cancel: CancelFlag, latents: list[Path]) -> None:
        if isinstance(command, DecodeLatents | ContinueVideo):
            emit(JobStarted(self.folder, 256, 256, 33, 16, (Stage.DECODE, Stage.ENCODE)))
            if self.script.fail_with is not None and isinstance(command, ContinueVideo):
                emit(JobFailed(self.script.fail_with, {"stage": "decode"}, "scripted", self.folder / LATENTS))
                return
            emit(JobFinished(command.output, 7.0, 300 * MIB))
            return
        size = (command.width, command.height, command.frames, command.fps)
        stages = tuple(stage for stage in Stage if stage is not Stage.IMAGE)
        emit(JobStarted(self.folder, *size, stages))
        emit(figures_for(command.height, self.script.strip_rows, 140 * MIB))
        canvas.open(
            np.zeros((command.frames, command.height, command.width, 4), np.uint8),
            (command.frames - 1) // 4 + 1,
            command.height // 8,
            command.width // 8,
        )
        clip = ball_clip(command.width, command.height, command.frames)
        for stage in (Stage.TEXT,):
            self._quick_stage(stage, emit, cancel)
        self._sample(command, clip, emit, canvas, cancel)
        latents.append(self.folder / LATENTS)
        emit(LatentsSaved(latents[0]))
        self._decode(clip, emit, canvas, cancel)
        if self.script.fail_with is not None:
            technical = "Traceback (most recent call last):\n  scripted\nMemoryError: tried to allocate 512 MiB"
            emit(JobFailed(self.script.fail_with, {"stage": "decode"}, technical, latents[0]))
            return
        self._encode(command, emit, cancel)
        emit(JobFinished(command.output, 41.2, 640 * MIB))

    def _quick_stage(self, stage: Stage, emit: Emit, cancel: CancelFlag) -> None:
        emit(StageStarted(stage, HELD + 90 * MIB))
        self._wait(self.script.sample_seconds, cancel)
        emit(StageFinished(stage, 0.4, 500 * MIB))

    def _sample(self, command: GenerateVideo, clip: np.ndarray, emit: Emit, canvas: Canvas, cancel: CancelFlag) -> None:
        emit(StageStarted(Stage.SAMPLE, HELD + 220 * MIB))
        noise = np.random.default_rng(0).integers(0, 255, canvas.preview.shape).astype(np.float32)
        for step in range(1, command.steps + 1):
            self._wait(self.script.sample_seconds, cancel)
            share = step / command.steps
            canvas.preview[:] = clip[::4, 4::8, 4::8] * share + noise * (1 - share)
            canvas.preview[..., 3] = 255
            canvas.mark_preview_dirty()
            emit(StageProgressed(Stage.SAMPLE, step, command.steps))
            if self.script.keep_every and step % self.script.keep_every == 0:
                self.kept_steps = step
                emit(SamplingKept(step))
        emit(StageFinished(Stage.SAMPLE, 9.0, 610 * MIB))

    def _decode(self, clip: np.ndarray, emit: Emit, canvas: Canvas, cancel: CancelFlag) -> None:
        emit(StageStarted(Stage.DECODE, HELD + 140 * MIB, HELD + BUDGET))
        strips = range(0, clip.shape[1], self.script.strip_rows)
        chunks = [0, *range(1, len(clip), 4)]
        steps = [(row, chunk) for row in strips for chunk in chunks]
        if self.script.frame_major:
            steps.sort(key=lambda step: (step[1], step[0]))
        for done, (row, frame) in enumerate(steps, 1):
            self._wait(3600 if row == self.script.hold_at_row else self.script.strip_seconds, cancel)
            rows = DirtyRows(frame, frame + (4 if frame else 1), row, min(row + self.script.strip_rows, clip.shape[1]))
            frames, strip = slice(rows.frame_start, rows.frame_stop), slice(rows.row_start, rows.row_stop)
            canvas.pixels[frames, strip] = clip[frames, strip]
            canvas.mark_dirty(rows)
            emit(StageProgressed(Stage.DECODE, done, len(steps)))
        emit(StageFinished(Stage.DECODE, 6.0, 640 * MIB))

    def _encode(self, command: GenerateVideo, emit: Emit, cancel: CancelFlag) -> None:
        emit(StageStarted(Stage.ENCODE, HELD))
        for done in range(1, command.frames + 1):
            self._wait(self.script.strip_seconds / 4, cancel)
            emit(StageProgressed(Stage.ENCODE, done, command.frames))
        command.output.parent.mkdir(parents=True, exist_ok=True)
        command.output.write_bytes(b"scripted")
        emit(StageFinished(Stage.ENCODE, 0.8, 300 * MIB))

    def _wait(self, seconds: float, cancel: CancelFlag) -> None:
        until = time.monotonic() + seconds
        while True:
            cancel.raise_if_set()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.01))


def job_planned(command: GenerateVideo, budget: int, decode_bytes: int, script: Script) -> JobPlanned:
    """As many blocks on the card as the budget holds, or as many as are asked for."""
    shell, block, blocks = 60 * MIB, script.block_bytes, script.blocks
    fitting = max(0, min(blocks, (budget - shell) // block - 2))
    residents = fitting if command.sampling.resident_blocks is None else command.sampling.resident_blocks
    slots = 0 if residents >= blocks else 2
    peak = shell + (residents + slots) * block
    smallest = shell + 2 * block if command.sampling.resident_blocks is None else peak
    figures = SamplingFigures(residents, blocks, 4096, 8192, (blocks - residents) * block, 0, 3.0, 4.2)
    given = command.given
    pictures = any((given.first, given.last, given.extend, given.restyle))
    stages = (
        StageOutlook(Stage.TEXT, 90 * MIB, 20 * MIB, budget),
        *([StageOutlook(Stage.IMAGE, 70 * MIB, 20 * MIB, budget)] if pictures else []),
        StageOutlook(Stage.SAMPLE, peak, smallest, budget),
        StageOutlook(Stage.DECODE, decode_bytes, SMALLEST, command.decode.budget_bytes or budget),
    )
    return JobPlanned(stages, figures, budget)


def figures_for(height: int, rows: int, peak_bytes: int) -> DecodePlanned:
    """A plan of strips of `rows` rows beside made-up alternatives."""
    plan = DecodeFigures("strip_major", rows, -(-height // rows), 1, "host", peak_bytes, 20 * MIB, 0, 1.0, 1.0)
    whole = DecodeFigures("frame_major", height, 1, 1, "card", 600 * MIB, 4 * MIB, 0, 1.0, 1.0)
    tiles = DecodeFigures("reference", 272, 2, 1, "card", 300 * MIB, 9 * MIB, 0, 3.0, 3.0)
    return DecodePlanned(plan, BUDGET, untiled=whole, reference=tiles)


def ball_clip(width: int, height: int, frames: int) -> np.ndarray:
    """A red ball bouncing on a blue ground, [T, H, W, 4] in B, G, R, 255."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    clip = np.empty((frames, height, width, 4), np.uint8)
    radius = min(width, height) / 7
    for frame in range(frames):
        phase = (frame % 16) / 16
        centre = height - radius * 1.3 - 4 * phase * (1 - phase) * height * 0.6
        distance = np.hypot(x - width / 2, y - centre)
        light = np.clip(1.15 - np.hypot(x - width / 2 + radius / 3, y - centre + radius / 3) / radius / 2.2, 0.3, 1)
        inside = np.clip(radius - distance + 0.5, 0, 1)[..., None]
        ball = light[..., None] * np.array([40, 45, 235], np.float32)
        ground = (0.75 + 0.25 * y / height)[..., None] * np.array([205, 120, 60], np.float32)
        clip[frame, ..., :3] = ball * inside + ground * (1 - inside)
    clip[..., 3] = 255
    return clip
