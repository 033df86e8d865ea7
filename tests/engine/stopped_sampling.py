"""Jobs that are cancelled while they sample, and gone on with; shared by their tests."""

from pathlib import Path

from engine.commands import ContinueVideo, GenerateVideo
from engine.events import (
    Event,
    JobCancelled,
    JobFinished,
    Stage,
    StageProgressed,
)
from tests.engine.job_run import Run
from tests.engine.road_run import job_folder_of

STEPS = 12


def gone_on_with(folder: Path, jobs: Path, output: Path) -> Run:
    run = Run(ContinueVideo(folder, output), jobs)
    end = run()
    assert isinstance(end, JobFinished), end
    return run


def steps_told(run: Run) -> list[int]:
    return [each.done for each in run.events if isinstance(each, StageProgressed) and each.stage is Stage.SAMPLE]


def stopped_after(command: GenerateVideo, folder: Path, steps: int) -> Path:
    """The folder of the job, which was cancelled when so many steps were done."""

    def stop(event: Event) -> None:
        if event == StageProgressed(Stage.SAMPLE, steps, STEPS):
            run.cancel.set()

    run = Run(command, folder / "jobs", stop)
    end = run()
    assert isinstance(end, JobCancelled)
    assert end.kept_steps == steps
    return job_folder_of(run)
