"""How long a job will still take, from what it has done so far and from the last job of its kind."""

from engine.events import Stage


class TimeLeft:
    """Clock times in seconds go in, seconds left come out; None while there is nothing honest to say.

    The running stage is extrapolated from its own speed. Stages still to come cost what they cost in the last
    finished job of the same size; without one, nothing is claimed for the job as a whole.
    """

    def __init__(self) -> None:
        self._learned: dict[object, dict[Stage, float]] = {}
        self._kind: object = None
        self._stages: tuple[Stage, ...] = ()
        self._stage: Stage | None = None
        self._first_unit: tuple[float, int] | None = None
        self._latest: tuple[float, int, int] | None = None
        self._seconds: dict[Stage, float] = {}

    def start_job(self, kind: object, stages: tuple[Stage, ...]) -> None:
        """Begin a job; jobs of equal `kind` are expected to take equally long."""
        self._kind, self._stages, self._seconds = kind, stages, {}
        self._stage = None

    def start_stage(self, stage: Stage) -> None:
        """Begin a stage."""
        self._stage, self._first_unit, self._latest = stage, None, None

    def progress(self, now: float, done: int, total: int) -> None:
        """`done` of `total` units at time `now`. The first report only sets the zero: it carries the warm-up."""
        if self._first_unit is None:
            self._first_unit = (now, done)
        self._latest = (now, done, total)

    def finish_stage(self, stage: Stage, seconds: float) -> None:
        """Note what a stage took."""
        self._seconds[stage] = seconds

    def finish_job(self) -> None:
        """Learn from a job that ran to its end."""
        self._learned[self._kind] = dict(self._seconds)

    def stage_seconds(self, now: float) -> float | None:
        """Seconds until the running stage ends."""
        if self._first_unit is None or self._latest is None:
            return None
        (began, first), (latest, done, total) = self._first_unit, self._latest
        if done <= first:
            return None
        unit = (latest - began) / (done - first)
        # A unit that takes longer than the ones before may take up its own time, never that of those to come.
        return max(0.0, unit * (total - done - 1), unit * (total - done) - (now - latest))

    def job_seconds(self, now: float) -> float | None:
        """Seconds until the job ends, or None when no job of this kind has finished yet."""
        learned = self._learned.get(self._kind)
        running = self.stage_seconds(now)
        if learned is None or running is None or self._stage is None:
            return None
        later = self._stages[self._stages.index(self._stage) + 1 :]
        return running + sum(learned.get(stage, 0.0) for stage in later)
