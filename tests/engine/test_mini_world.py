"""The embedded model's world and its judge: the judge must be right about pictures whose truth is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.commands import EMBEDDED_MODEL
from engine.presets import defaults_of
from resources.mini.clips import STATISTICS, trained_vae
from resources.mini.export import take_back
from resources.mini.judge import judge
from resources.mini.train_dit import TextToVideo
from resources.mini.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    Caption,
    all_captions,
    random_scene,
    render,
    split_captions,
    wording,
)


def test_the_world_is_as_large_as_promised() -> None:
    assert (len(COLOURS), len(SHAPES), len(MOTIONS), len(BACKGROUNDS)) >= (8, 6, 8, 5)
    training, held_out = split_captions()
    assert not set(training) & set(held_out)
    assert set(training) | set(held_out) == set(all_captions())
    assert len(held_out) == round(0.2 * len(all_captions()))


def test_the_model_is_small_enough_to_come_along() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED_MODEL.iterdir() if file.is_file()) <= 24e6
    assert defaults_of(EMBEDDED_MODEL).name == "mini"


def test_training_can_go_on_from_the_model(tmp_path: Path) -> None:
    take_back(EMBEDDED_MODEL, tmp_path)
    model = TextToVideo()
    model.load_state_dict(torch.load(tmp_path / "dit.pt", weights_only=True))
    stored_tensor = load_file(EMBEDDED_MODEL / "diffusion_pytorch_model.safetensors")["head.head.weight"]
    assert torch.equal(model.transformer.head.head.weight, stored_tensor)
    assert trained_vae(tmp_path / "vae.pt", tmp_path / "clips" / STATISTICS).config.latents_std != (1.0,) * 8


def test_every_word_is_seen_in_training() -> None:
    training, _ = split_captions()
    for part, words in (("colour", COLOURS), ("shape", SHAPES), ("motion", MOTIONS), ("background", BACKGROUNDS)):
        assert {getattr(caption, part) for caption in training} == set(words)


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_judge_knows_rendered_clips(motion: str) -> None:
    """Noise and the blur of compression included, every part of the verdict is right."""
    rng = np.random.default_rng(MOTIONS.index(motion))
    for shape in SHAPES:
        # The shaded corner of a white shape has the very colour of the gray background: no judge could see it.
        colour, background = rng.choice([c for c in COLOURS if c != "white"]), rng.choice(list(BACKGROUNDS))
        caption = Caption(str(colour), shape, motion, str(background))
        clip = render(random_scene(caption, rng))
        clip = np.clip(clip + rng.normal(0, 0.02, clip.shape), 0, 1).astype(np.float32)
        verdict = judge(clip)
        assert (verdict.colour, verdict.shape, verdict.motion, verdict.background) == (
            caption.colour,
            shape,
            motion,
            caption.background,
        )


def test_the_judge_sees_nothing_where_nothing_is() -> None:
    rng = np.random.default_rng(0)
    clip = render(random_scene(Caption("red", "ball", "rising", "gray"), rng))
    empty = np.broadcast_to(clip[:1, :, :1], clip.shape)
    verdict = judge(np.ascontiguousarray(empty))
    assert (verdict.colour, verdict.shape, verdict.motion, verdict.background) == (None, None, None, "gray")


def test_the_judge_is_not_fooled_by_a_clip_played_backwards() -> None:
    rng = np.random.default_rng(1)
    opposite = {"moving left": "moving right", "rising": "falling", "growing": "shrinking"}
    for motion, reverse in opposite.items():
        clip = render(random_scene(Caption("yellow", "star", motion, "blue"), rng))
        assert judge(clip[::-1]).motion == reverse


def test_wordings_keep_what_the_caption_says() -> None:
    rng = np.random.default_rng(0)
    caption = Caption("orange", "ball", "rising", "black")
    texts = {wording(caption, rng) for _ in range(200)}
    assert str(caption) in texts
    assert len(texts) > 5
    assert all("orange" in text and "black" in text for text in texts)
    assert str(caption) == "an orange ball rising on a black background"


def test_a_window_is_a_cut_of_the_whole_picture() -> None:
    scene = random_scene(all_captions()[7], np.random.default_rng(3))
    whole = render(scene, np.array([4, 9]))
    part = render(scene, np.array([4, 9]), (32, 48, 64, 80))
    np.testing.assert_allclose(part, whole[:, 32:96, 48:128], atol=1e-6)
