"""The embedded model's world and its judge: the judge must be right about pictures whose truth is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.commands import EMBEDDED_MODEL
from engine.model_choice import WeightForm
from engine.presets import defaults_of
from resources.mini.clips import STATISTICS, trained_vae
from resources.mini.evaluate import command_for, held_out_questions, read_video, seen, write_picture
from resources.mini.export import take_back
from resources.mini.judge import judge
from resources.mini.train_dit import TextToVideo
from resources.mini.trial import FIRST_FRAME_LIMIT_DB, Question, Road, Trial, table
from resources.mini.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    Caption,
    all_captions,
    motion_wording,
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


def test_a_motion_alone_says_nothing_else() -> None:
    rng = np.random.default_rng(0)
    said: dict[str, str] = {}
    for caption in all_captions():
        text = motion_wording(caption, rng)
        assert said.setdefault(text, caption.motion) == caption.motion  # no two motions share a wording
        assert not set(text.split()) & {*COLOURS, *SHAPES, *BACKGROUNDS}
    assert set(said.values()) == set(MOTIONS)


def test_questions_are_held_out_and_begin_with_their_own_picture(tmp_path: Path) -> None:
    questions = held_out_questions(prompts=3, pictures=2, seed=5)
    training, _ = split_captions()
    assert [question.road for question in questions].count(Road.PROMPT) == 3
    assert len(questions) == 3 + 2 * (len(Road) - 1)
    assert not {question.caption for question in questions} & set(training)
    for question in questions:
        command = command_for(question, EMBEDDED_MODEL, tmp_path, WeightForm.STORED)
        assert (command.given.first is None) == (question.road is Road.PROMPT)
        if command.given.first is not None:
            np.testing.assert_array_equal(read_video(command.given.first)[0] * 255, question.first_frame())
    assert {q.road.prompt(q.caption) for q in questions if q.road is Road.WORDLESS} == {""}
    assert all(q.road.prompt(q.caption) in MOTIONS for q in questions if q.road is Road.MOTION)


def trial_of_rendering(question: Question, shown: Caption) -> Trial:
    """The trial of a perfect model that was asked `question` and made a clip of `shown` in the same scene."""
    return seen(question, render(random_scene(shown, np.random.default_rng(question.seed))), 1.0)


def test_the_table_counts_what_is_wrong_and_how_far_the_clip_begins_from_the_picture() -> None:
    caption = Caption("red", "star", "rising", "brown")
    right = [trial_of_rendering(Question(caption, road, 3), caption) for road in Road]
    assert right[0].first_frame_db is None
    assert all((trial.first_frame_db or 0) > 50 for trial in right[1:])
    wrong = trial_of_rendering(Question(caption, Road.PICTURE, 3), Caption("red", "ball", "falling", "brown"))
    assert wrong.first_frame_db is not None
    assert wrong.first_frame_db < FIRST_FRAME_LIMIT_DB
    lines = table([*right, wrong]).splitlines()
    assert lines[3] == "| prompt, 1 clips | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 100.0 % |  |"
    assert lines[4].startswith("| first frame and prompt, 2 clips | 100.0 % | 100.0 % | 50.0 % | 50.0 % | 50.0 % | ")
    assert lines[6].startswith("| first frame and no prompt, 1 clips | 100.0 % | 100.0 % | (100.0 %) | 100.0 % |  | ")


def test_a_picture_is_written_without_loss(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    write_picture(tmp_path / "noise.png", pixels)
    np.testing.assert_array_equal((read_video(tmp_path / "noise.png")[0] * 255).round(), pixels)


def test_a_window_is_a_cut_of_the_whole_picture() -> None:
    scene = random_scene(all_captions()[7], np.random.default_rng(3))
    whole = render(scene, np.array([4, 9]))
    part = render(scene, np.array([4, 9]), (32, 48, 64, 80))
    np.testing.assert_allclose(part, whole[:, 32:96, 48:128], atol=1e-6)
