"""Videos: a chain over all frames or one for each, and masks that are taken frame by frame."""

import pytest
import torch

from sag.degrade import blur_tokens, mask_of_frames
from sag.mask import score_image
from sag.scorers import ColumnSumScorer, RolloutScorer
from tokenrank_guidance import plots
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.families.calling import edit_frames, edit_video

FRAMES, HEIGHT, WIDTH = 3, 4, 5
GRID = (FRAMES, HEIGHT, WIDTH)


def record(rows, tokens, **spans):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, rows, 2, tokens, 8, generator=generator)
    return AttentionRecord(q, k, 0.5, module="layer", **spans)


@pytest.mark.parametrize("scorer", [ColumnSumScorer(), RolloutScorer()])
def test_a_chain_over_all_frames_is_scored_on_their_grid(scorer):
    score = score_image([record(2, 60, grid=GRID)], scorer)
    assert score.shape == (2, *GRID)
    torch.testing.assert_close(score.mean((1, 2, 3)), torch.ones(2))


@pytest.mark.parametrize("scorer", [ColumnSumScorer(), RolloutScorer()])
def test_frames_that_share_the_batch_axis_are_scored_each_by_itself(scorer):
    both = record(2 * FRAMES, 20, grid=(HEIGHT, WIDTH), frames=FRAMES)
    score = score_image([both], scorer)
    assert score.shape == (2, *GRID)
    alone = [score_image([both.select(row)], scorer) for row in range(2 * FRAMES)]
    torch.testing.assert_close(score.flatten(0, 1), torch.stack([one.squeeze(0) for one in alone]))


def test_layers_of_several_sizes_are_brought_to_the_finest():
    records = [record(1, 60, grid=GRID), record(1, 3 * 8 * 10, grid=(FRAMES, 8, 10))]
    assert score_image(records, ColumnSumScorer()).shape == (1, FRAMES, 8, 10)


@pytest.mark.parametrize("chosen", [slice(1, 2), slice(0, None, 2), slice(None)])
def test_images_of_a_record_are_whole_videos(chosen):
    mask = torch.randn(4 * FRAMES, 1, 1, 20)
    videos = record(4 * FRAMES, 20, grid=(HEIGHT, WIDTH), frames=FRAMES, mask=mask)
    rows = torch.arange(4 * FRAMES).view(4, FRAMES)[chosen].flatten()
    part = videos.images(chosen)
    assert torch.equal(part.q, videos.q[rows]) and torch.equal(part.k, videos.k[rows])
    assert torch.equal(part.mask, mask[rows])
    assert part.frames == part.restrict("image").frames == FRAMES


def test_a_token_may_span_frames_of_the_latents():
    mask = torch.arange(2 * 3).view(2, 3, 1, 1)
    assert mask_of_frames(mask, 12).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert torch.equal(mask_of_frames(mask[:, 0], 2), mask[:, 0])


@pytest.mark.parametrize(("edit", "axis"), [(edit_video, 2), (edit_frames, 1)])
def test_videos_are_blurred_frame_by_frame(edit, axis):
    video = torch.randn(2, 6, 6, 8, 10, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(2, *GRID, generator=torch.Generator().manual_seed(2)) > 0.5
    blurred = edit(video, GRID, lambda images: blur_tokens(images, mask_of_frames(mask, len(images)), 9, 1.0))
    for frame in range(6):
        alone = blur_tokens(video.select(axis, frame), mask[:, frame // 2], 9, 1.0)
        torch.testing.assert_close(blurred.select(axis, frame), alone)


def test_what_is_about_one_picture_refuses_a_video():
    with pytest.raises(ValueError, match="layer attends over 3×4×5 tokens of a video at once"):
        plots.tokenrank_figure(record(1, 60, grid=GRID))
    frames = record(FRAMES, 20, grid=(HEIGHT, WIDTH), frames=FRAMES)
    assert plots.tokenrank_figure(frames, batch=1) is not None
