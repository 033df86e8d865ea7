"""From prompt to latents: the text encoded, then noise walked to clean latents. Engine thread."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from engine.commands import GenerateVideo
from engine.job import Job
from engine.models.text_encoder import TextEncoder
from engine.models.tokenizer import Tokenizer
from engine.models.transformer import WanTransformer
from engine.preview import Preview
from engine.sampling.guidance import guided, seeded_noise
from engine.sampling.schedule import schedule_for
from engine.sampling.solvers import Past, predicted_x0, step_of

NO_GUIDANCE = 1.0


def encode_prompt(job: Job, prompt: str, tokenizer: Tokenizer, encoder: TextEncoder, text_len: int) -> Tensor:
    """`prompt` as the rows that the transformer attends to: [1, text_len, C], zero after the last token.

    Only the true tokens are encoded: a mask would hide the padding anyway, and short prompts are the rule.
    """
    device = next(encoder.parameters()).device
    ids = torch.tensor([tokenizer.encode(prompt, text_len)], device=device)  # [1, L]
    rows = encoder(ids, torch.ones_like(ids), on_block=lambda _: job.check())  # [1, L, C]
    return torch.nn.functional.pad(rows, (0, 0, 0, text_len - rows.shape[1]))


def encode_prompts(
    job: Job, command: GenerateVideo, tokenizer: Tokenizer, encoder: TextEncoder, text_len: int
) -> tuple[Tensor, Tensor | None]:
    """The prompt, and the negative prompt unless guidance 1 leaves it without effect."""
    text = encode_prompt(job, command.prompt, tokenizer, encoder, text_len)
    if command.guidance == NO_GUIDANCE:
        return text, None
    return text, encode_prompt(job, command.negative_prompt, tokenizer, encoder, text_len)


def sample(
    job: Job,
    command: GenerateVideo,
    transformer: WanTransformer,
    texts: tuple[Tensor, Tensor | None],
    shape: tuple[int, ...],
    preview: Preview | None,
    progress: Callable[[int, int], None],
) -> Tensor:
    """Clean normalised latents of `shape` [1, z, T, h, w], float32. The preview shows x0 as each step predicts it.

    Every step is shown, also by a decoder: what it computes is a few hundredths of one pass of the transformer.
    """
    schedule, step = schedule_for(command.solver, command.steps, command.shift), step_of(command.solver)
    x, past = seeded_noise(shape, command.seed).to(job.device.torch_device), Past()
    progress(0, schedule.steps)
    for index, time in enumerate(schedule.timesteps):
        velocity = guided(partial(predict, job, transformer, x, time), *texts, command.guidance)
        job.show_preview(predicted_x0(schedule, index, x, velocity), preview)
        x, past = step(schedule, index, x, velocity, past)
        progress(index + 1, schedule.steps)
    return x


def predict(job: Job, transformer: WanTransformer, x: Tensor, time: float, text: Tensor) -> Tensor:
    """The velocity at `x` and `time` under `text`; a cancel leaves between two blocks."""
    timestep = torch.tensor([time], device=x.device)
    return transformer(x, timestep, text, on_block=lambda _: job.check())
