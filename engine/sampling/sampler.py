"""From noise to latents, step by step: where guidance, solver, pictures and memory meet. Engine thread.

What a step makes is complete before anything of it is kept: a step that runs out of memory is taken again in smaller
pieces, and one that is broken off never was.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from engine.denoise.experts import Experts
from engine.denoise.streaming import Denoiser
from engine.device import is_out_of_memory, release_memory
from engine.events import SamplingRecut
from engine.generation import NO_GUIDANCE
from engine.job import Job
from engine.preview import Preview
from engine.sampling.checkpoint import SamplingState
from engine.sampling.conditioning import Conditioning, network_input, started, times_of, with_known
from engine.sampling.guidance import guided, seeded_noise
from engine.sampling.schedule import Schedule
from engine.sampling.solvers import Past, Step, predicted_x0
from engine.sampling.step_cache import StepCache

Texts = tuple[Tensor, Tensor | None]
"""The rows of the prompt and, where guidance has a use for them, of the negative prompt: [1, S, C] each."""


@dataclass(frozen=True, slots=True)
class Way:
    """What does not change from step to step. guidances: of every step; joint_guidance: both passes of it as one.

    step_cache: the estimated error up to which a pass may be taken from the step before. fingerprint: of the job.
    """

    schedule: Schedule
    step: Step
    guidances: tuple[float, ...]
    texts: Texts
    conditioning: Conditioning
    joint_guidance: bool
    step_cache: float
    fingerprint: str

    def start(self, shape: tuple[int, ...], seed: int) -> SamplingState:
        """Where the way begins: noise of `shape` [1, z, T, h, w], or a clip that noise was added to."""
        x = started(seeded_noise(shape, seed), self.schedule.sigmas[0], self.conditioning)
        return SamplingState(0, self.schedule.steps, x, Past(), self.fingerprint)

    def begun(self, device: torch.device) -> "Way":
        """The way behind its start, on `device`: a clip that noise was added to is of no more use."""
        return replace(self, conditioning=replace(self.conditioning, start=None).to(device))

    def texts_at(self, step: int) -> Texts:
        """What steers `step`; the negative prompt only where guidance leads away from it."""
        text, negative = self.texts
        return (text, negative) if self.guidances[step] != NO_GUIDANCE else (text, None)


def sample(
    job: Job,
    way: Way,
    experts: Experts,
    state: SamplingState,
    take: Callable[[SamplingState], None],
    preview: Preview | None,
    progress: Callable[[int, int], None],
) -> Tensor:
    """Clean normalised latents [1, z, T, h, w], float32, from `state` on. `take` is given the state after every step.

    The preview shows x0 as each step predicts it, also by a decoder: what that computes is a few hundredths of one
    pass of the transformer.
    """
    state = state.to(job.device.torch_device)
    progress(state.step, state.steps)
    while state.step < state.steps:
        state = in_memory(job, experts, partial(next_state, job, way, experts, state, preview))
        take(state)
        progress(state.step, state.steps)
    return state.x


def in_memory(job: Job, experts: Experts, step: Callable[[], SamplingState]) -> SamplingState:
    """What `step` makes, in as small pieces as it takes. Raises the error of memory when nothing gets smaller."""
    while True:
        try:
            return step()
        except Exception as error:
            if not is_out_of_memory(error) or not experts.make_smaller():
                raise
        release_memory(job.device.torch_device)  # only here has the failed step let go of its tensors
        job.emit(SamplingRecut(experts.plan.resident_blocks, experts.plan.chunk_tokens))


def next_state(job: Job, way: Way, experts: Experts, state: SamplingState, preview: Preview | None) -> SamplingState:
    """The state one step further; nothing of `state` is changed."""
    index, x = state.step, state.x
    cache = StepCache(way.step_cache, state.steps, () if experts.is_first_of(index) else state.cache)
    predict = partial(velocity_of, job, experts.at(index), way.conditioning, x, way.schedule.timesteps[index])
    text, negative = way.texts_at(index)
    velocity = guided(
        cache.of_step(index, x, predict), text, negative, way.guidances[index], jointly=way.joint_guidance
    )
    job.show_preview(with_known(predicted_x0(way.schedule, index, x, velocity), way.conditioning), preview)
    x, past = way.step(way.schedule, index, x, velocity, state.past)
    return SamplingState(index + 1, state.steps, with_known(x, way.conditioning), past, way.fingerprint, cache.kept)


def velocity_of(
    job: Job, denoiser: Denoiser, conditioning: Conditioning, x: Tensor, time: float, text: Tensor
) -> Tensor:
    """The velocity at x [1, z, T, h, w] and `time` under each text [B, S, C]; a cancel leaves between two blocks."""
    batch = len(text)
    times = times_of(torch.full((batch,), time, device=x.device), conditioning, x.shape[2])  # [B] or [B, T]
    latents = network_input(x, conditioning).expand(batch, -1, -1, -1, -1)  # [B, in_dim, T, h, w]
    image = conditioning.image
    features = None if image is None else image.to(x.device).expand(batch, -1, -1)  # [B, I, C]
    return denoiser.velocity(latents, times, text, image=features, on_block=lambda _: job.check())
