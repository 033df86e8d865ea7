"""The training of the embedded model: what it is shown, what it is told, and which errors count."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.commands import EMBEDDED_MODEL
from engine.models.tokenizer import Tokenizer
from resources.mini.clips import STATISTICS, Clips, encode_scene, trained_vae
from resources.mini.export import take_back
from resources.mini.train_dit import (
    FROM_NOTHING,
    GOING_ON,
    LATENT_FRAMES,
    NOISE_SHIFT,
    TRANSFORMER,
    Batch,
    TextToVideo,
    flow_loss,
    prompt_for,
    random_batch,
)
from resources.mini.world import random_scene, split_captions

CLIPS = 3
SHAPE = (CLIPS, TRANSFORMER.in_dim, 4, 8, 8)
WHICH = torch.tensor([0, 2, 5, LATENT_FRAMES - 1])


def batch(given: list[int]) -> Batch:
    """Random latents, of each clip so many first frames given."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, 700, (CLIPS, TRANSFORMER.text_len), generator=generator)
    first = torch.arange(SHAPE[2]) < torch.tensor(given)[:, None]
    return Batch(torch.randn(SHAPE, generator=generator), WHICH, first, ids, torch.ones_like(ids))


def draws(seed: int) -> tuple[Tensor, Tensor]:
    """The noise levels [B] and the noise that a loss with this seed sees."""
    generator = torch.Generator().manual_seed(seed)
    even = torch.rand(CLIPS, generator=generator)
    return NOISE_SHIFT * even / (1 + (NOISE_SHIFT - 1) * even), torch.randn(SHAPE, generator=generator)


class Recorder:
    """Stands for the network: keeps what it was shown and answers with `answer`."""

    def __init__(self, answer: Tensor) -> None:
        self.answer = answer

    def __call__(self, noisy: Tensor, timestep: Tensor, ids: Tensor, mask: Tensor, frames: Tensor) -> Tensor:
        self.noisy, self.timestep = noisy, timestep
        return self.answer


def test_given_frames_are_shown_clean_at_time_0_and_their_errors_do_not_count() -> None:
    levels, noise = draws(7)
    given = [0, 1, 3]
    shown = batch(given)
    answer = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))
    network = Recorder(answer)
    loss = flow_loss(network, shown, torch.Generator().manual_seed(7))

    errors: list[float] = []
    for clip, count in enumerate(given):
        for frame in range(SHAPE[2]):
            clean = shown.latents[clip, :, frame]
            if frame < count:
                assert network.timestep[clip, frame] == 0
                assert torch.equal(network.noisy[clip, :, frame], clean)
                continue
            assert network.timestep[clip, frame] == 1000 * levels[clip]
            mixed = (1 - levels[clip]) * clean + levels[clip] * noise[clip, :, frame]
            torch.testing.assert_close(network.noisy[clip, :, frame], mixed)
            errors += ((answer[clip, :, frame] - (noise[clip, :, frame] - clean)) ** 2).flatten().tolist()
    assert loss.item() == pytest.approx(np.mean(errors), rel=1e-5)

    spoilt = torch.where(shown.given[:, None, :, None, None], 1e6, answer)
    assert torch.equal(flow_loss(Recorder(spoilt), shown, torch.Generator().manual_seed(7)), loss)


def test_without_a_picture_the_loss_is_that_of_one_time_a_clip() -> None:
    torch.manual_seed(0)
    model, shown, (levels, noise) = TextToVideo(), batch([0] * CLIPS), draws(8)
    torch.nn.init.normal_(model.transformer.head.head.weight, std=0.05)
    noisy = torch.lerp(shown.latents, noise, levels.view(-1, 1, 1, 1, 1))
    with torch.no_grad():
        loss = flow_loss(model, shown, torch.Generator().manual_seed(8))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            velocity = model(noisy, 1000 * levels, shown.ids, shown.mask, shown.frames)
    torch.testing.assert_close(loss, F.mse_loss(velocity, noise - shown.latents), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("frames", "most"), [(3, 2), (LATENT_FRAMES, 4)])
def test_half_of_the_clips_are_begun_and_none_is_finished(frames: int, most: int) -> None:
    training, _ = split_captions()
    captions = training[:64]
    latents = torch.arange(64.0)[:, None, None, None, None].expand(-1, 1, LATENT_FRAMES, 1, 1)
    tokenizer = Tokenizer((EMBEDDED_MODEL / "spiece.model").read_bytes())
    shown = random_batch(Clips(latents, captions), 1000, frames, tokenizer, np.random.default_rng(0))
    counts = shown.given.sum(dim=1)
    assert torch.equal(shown.given, torch.arange(frames) < counts[:, None])  # they come first
    assert shown.frames[0] == 0
    assert int(counts.max()) == most
    assert float((counts == 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float((counts == 1).float().mean()) == pytest.approx(0.35, abs=0.05)
    words = shown.mask.sum(dim=1)
    assert float((words == words.min()).float().mean()) == pytest.approx(0.1, abs=0.03)


def test_only_beside_a_picture_the_rest_may_go_without_saying() -> None:
    training, _ = split_captions()
    rng = np.random.default_rng(0)
    for has_picture, share in ((False, 0.0), (True, 0.45)):
        asked = [training[i] for i in rng.integers(len(training), size=1000)]
        prompts = [prompt_for(caption, has_picture, rng) for caption in asked]
        silent = [p != "" and c.colour not in p for p, c in zip(prompts, asked, strict=True)]
        assert prompts.count("") / 1000 == pytest.approx(0.1, abs=0.03)
        assert np.mean(silent) == pytest.approx(share, abs=0.05)


@torch.no_grad()
def test_the_embedded_model_reads_the_picture(tmp_path: Path) -> None:
    """Nearly all noise, and told the motion alone: what there is it can know only from the first frame."""
    take_back(EMBEDDED_MODEL, tmp_path)
    model, vae = TextToVideo(), trained_vae(tmp_path / "vae.pt", tmp_path / "clips" / STATISTICS)
    model.load_state_dict(torch.load(tmp_path / "dit.pt", weights_only=True))
    tokenizer, (_, held_out) = Tokenizer((EMBEDDED_MODEL / "spiece.model").read_bytes()), split_captions()
    noise = torch.randn(1, 8, LATENT_FRAMES, 32, 32, generator=torch.Generator().manual_seed(0))
    misses = torch.zeros(2)  # without the picture, with it
    for seed, caption in enumerate(held_out[:2]):
        clean = encode_scene(vae, random_scene(caption, np.random.default_rng(seed)))[None]
        ids = torch.tensor([tokenizer.encode(caption.motion, TRANSFORMER.text_len)])
        ids = F.pad(ids, (0, TRANSFORMER.text_len - ids.shape[1]))
        for given in range(2):
            levels = torch.full((1, LATENT_FRAMES), 0.98)
            levels[:, :given] = 0
            noisy = torch.lerp(clean, noise, levels[:, None, :, None, None])
            velocity = model(noisy, 1000 * levels, ids, ids != 0, torch.arange(LATENT_FRAMES))
            misses[given] += F.mse_loss(velocity[:, :, 1:], (noise - clean)[:, :, 1:])
    assert misses[1] < 0.4 * misses[0]


def test_courses_cover_the_whole_time() -> None:
    assert [FROM_NOTHING.sizes(share) for share in (0.0, 0.39, 0.41, 1.0, 1.2)] == [(16, 3)] * 2 + [(8, 9)] * 3
    assert GOING_ON.sizes(0.0) == GOING_ON.sizes(1.5) == (8, LATENT_FRAMES)
    assert GOING_ON.rate < FROM_NOTHING.rate
