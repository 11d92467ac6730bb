"""Ranked videos of each kind: all frames in one map, with text in it, and each frame by itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.matrix.rows import ROWS
from tests.tiny_models import Call
from tokenrank_guidance import capture
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.plots import video_figure
from tokenrank_guidance.videos import RankedVideo, frame_scores, rank_video

GRID = (3, 8, 8)


def drawn(name):
    row = ROWS[name]
    arguments = row.arguments(Call(steps=2)) | {"output_type": "pil"}
    return row.build(), arguments


def by_hand(record):
    """Dense maps of the image tokens, and the damped chain's left eigenvector by a plain solve."""
    maps = record.maps().double()[..., record.image, record.image]
    chain = (maps / maps.sum(-1, keepdim=True)).mean(1)
    n = chain.shape[-1]
    damped = 0.99 * chain + 0.01 / n
    ones = torch.ones(len(chain), 1, n, dtype=torch.float64)
    equations = torch.cat([(torch.eye(n, dtype=torch.float64) - damped).mT, ones], 1)
    right = torch.zeros(len(chain), n + 1, 1, dtype=torch.float64)
    right[:, -1] = 1
    return n * torch.linalg.lstsq(equations, right).solution.squeeze(-1)


@pytest.mark.parametrize("name", ["Wan", "CogVideoX", "Latte"], ids=["full", "joint", "factorised"])
def test_a_video_is_drawn_and_its_tokens_ranked(name):
    pipe, arguments = drawn(name)
    arguments |= {"generator": torch.Generator().manual_seed(0)}
    with capture(denoiser_of(pipe), keep=None) as maps:
        plain = pipe(**arguments).frames[0]
    expected = torch.stack([by_hand(record).view(-1, *GRID).mean(0) for record in maps]).mean(0)
    video = rank_video(pipe, arguments | {"generator": torch.Generator().manual_seed(0)})
    assert video.scores.shape == GRID
    torch.testing.assert_close(video.scores.double(), expected, rtol=1e-3, atol=1e-4)
    assert all(np.array_equal(one, other) for one, other in zip(video.frames, plain, strict=True))
    each = video.scores.mean((1, 2))
    assert torch.allclose(each, torch.ones(3), atol=1e-4) == (name == "Latte")
    panels = video_figure(maps[-1], video.frames, batch=-1).axes
    assert len(panels) == 4 and [len(panel.images) for panel in panels[:3]] == [2, 2, 2]
    over = np.asarray(panels[1].images[1].get_array())
    np.testing.assert_allclose(over, frame_scores(maps[-1])[-1, 1].numpy(), rtol=1e-5)


def test_the_frames_that_stand_for_latents_are_spread():
    frames = [Image.new("L", (1, 1), i) for i in range(9)]
    assert RankedVideo(frames, torch.ones(3, 1, 1)).shown() == [frames[0], frames[4], frames[8]]
    assert RankedVideo(frames, torch.ones(1, 1, 1)).shown() == frames[:1]


def test_layers_of_several_sizes_are_brought_to_the_finest():
    pipe, arguments = drawn("AnimateDiff")
    assert rank_video(pipe, arguments, layers="all").scores.shape == (3, 16, 16)


@pytest.mark.parametrize(("grid", "told"), [((8, 8), "8×8"), (None, "unknown")])
def test_a_picture_is_no_video(grid, told):
    q = torch.randn(1, 1, 64, 4)
    with pytest.raises(ValueError, match=f"a grid of {told} tokens; expected a video's"):
        frame_scores(AttentionRecord(q, q, 1.0, grid=grid))
    with pytest.raises(IndexError):
        video_figure(AttentionRecord(q, q, 1.0, grid=(4, 4, 4)), batch=1)


def test_a_pipeline_of_pictures_is_refused():
    row = ROWS["StableDiffusion"]
    with pytest.raises(ValueError, match="a grid of 8×8 tokens"):
        rank_video(row.build(), row.arguments(Call()))


def test_what_gives_no_frames_is_refused():
    pipe, arguments = drawn("Wan")
    with pytest.raises(UnsupportedError, match="WanPipeline gives a tuple; expected a video's frames"):
        rank_video(pipe, arguments | {"return_dict": False})


def test_sections_are_not_taken_for_one_another():
    pipe, arguments = drawn("Helios")
    assert rank_video(pipe, arguments | {"num_frames": 5}).scores.shape == GRID
    with pytest.raises(UnsupportedError, match="HeliosPipeline draws this video section by section"):
        rank_video(pipe, arguments | {"num_frames": 10})
    assert rank_video(pipe, arguments | {"num_frames": 5}).scores.shape == GRID


def test_schedules_that_draw_the_same_frames_are_one_video():
    pipe, arguments = drawn("AnimateDiff")
    pipe.enable_free_init(num_iters=2)
    assert rank_video(pipe, arguments).scores.shape == GRID


def test_both_denoisers_of_a_schedule_are_ranked():
    pipe, arguments = drawn("Wan")
    pipe.register_modules(transformer_2=ROWS["Wan"].build().transformer)
    pipe.register_to_config(boundary_ratio=0.9)
    seen = []
    for model in (pipe.transformer, pipe.transformer_2):
        model.register_forward_hook(lambda *_, model=model: seen.append(model))
    video = rank_video(pipe, arguments)
    assert {id(model) for model in seen} == {id(pipe.transformer), id(pipe.transformer_2)}
    assert video.scores.shape == GRID
