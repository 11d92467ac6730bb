"""Guided videos against a plain loop that shares no code with `sag`: shifts used again, strided ranks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sag import SelfAttentionGuidance
from sag.scorers import TokenRankScorer
from tests.matrix.rows import ROWS, run
from tests.sag.oracle import blurred, mean_map, token_score
from tests.tiny_models import Call
from tokenrank_guidance import AttentionRecord, capture

STEPS, SCALE, GRID = 5, 0.75, (3, 8, 8)
Score = Callable[[AttentionRecord, int], Tensor]


def full(record: AttentionRecord, score: Score) -> Tensor:
    """Wan: all frames share one map."""
    return score(record, 0).view(GRID)


def by_frame(record: AttentionRecord, score: Score) -> Tensor:
    """Latte: each frame is a row."""
    return torch.stack([score(record, row) for row in range(3)]).view(GRID)


def dense(record: AttentionRecord, row: int) -> Tensor:
    return token_score(mean_map(record, row), "tokenrank")


def every_second(record: AttentionRecord, row: int) -> Tensor:
    """TokenRank of odd rows and columns, each head by itself normalised, and one step of the whole chain."""
    matrix = mean_map(record, row)
    odd = range(1, 8, 2)
    chosen = [(t * 8 + y) * 8 + x for t in range(len(matrix) // 64) for y in odd for x in odd]
    q, k = (side[row][:, chosen].double() for side in (record.q, record.k))
    weights = torch.exp(q @ k.mT * record.scale)
    block = (weights / weights.sum(-1, keepdim=True)).mean(0)
    rank = token_score(block, "tokenrank") / len(chosen)
    return len(matrix) * (rank @ matrix[chosen])


def wan_times(sigma: float) -> tuple[float, float]:
    """Of rectified flow: what the picture and the noise are multiplied by."""
    return 1 - sigma, sigma


def blur(video: Tensor, mask: Tensor) -> Tensor:
    """(c, t, h, w), frame by frame, where its mask of patches of 2×2 says so."""
    fine = mask.repeat_interleave(2, 1).repeat_interleave(2, 2)
    frames = [torch.where(fine[i], blurred(video[:, i]), video[:, i]) for i in range(video.shape[1])]
    return torch.stack(frames, 1)


def passes(name: str, reuse: int) -> list[int]:
    """Wan begins with noise alone, of which no shift is used again."""
    return sorted({*range(0, STEPS, reuse), *([1] if name == "Wan" else [])})


@torch.no_grad()
def guided_by_hand(name: str, reuse: int, ranked: Score) -> Tensor:
    """The pipeline's own latents, prompt and schedule; its loop, and the method, anew."""
    row = ROWS[name]
    pipe = row.build()
    model, arguments = pipe.transformer, row.arguments(Call(steps=STEPS, cfg=False))
    latents = torch.randn(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    text = arguments["prompt_embeds"]
    pipe.scheduler.set_timesteps(STEPS)
    shift = torch.zeros_like(latents)
    for i, t in enumerate(pipe.scheduler.timesteps):

        def predict(x: Tensor, t: Tensor = t) -> Tensor:
            states = {"encoder_hidden_states": text, "timestep": t.expand(1)}
            return model(hidden_states=x, **states, return_dict=False)[0]

        with capture(model) as maps:
            output = predict(latents)
        noisy = output[:, :4]
        if i in passes(name, reuse):
            score = full if name == "Wan" else by_frame
            mask = score(maps[-1], ranked) > 1
            if name == "Wan":
                alpha, sigma = wan_times(pipe.scheduler.sigmas[i].item())
                clean, noise = latents - sigma * noisy, latents + (1 - sigma) * noisy
            else:
                alpha = pipe.scheduler.alphas_cumprod[t].sqrt().item()
                sigma = (1 - alpha**2) ** 0.5
                clean, noise = (latents - sigma * noisy) / alpha, noisy
            degraded = alpha * blur(clean[0], mask)[None] + sigma * noise
            shift = SCALE * (noisy - predict(degraded)[:, :4])
        latents = pipe.scheduler.step(noisy + shift, t, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize(
    ("name", "reuse", "stride"),
    [
        ("Wan", 3, 2),
        ("Latte", 2, 1),
        pytest.param("Wan", 2, 1, marks=pytest.mark.slow),
        pytest.param("Latte", 3, 2, marks=pytest.mark.slow),
    ],
)
def test_a_guided_video_is_the_plain_loops(name: str, reuse: int, stride: int) -> None:
    row = ROWS[name]
    pipe = row.build()
    arguments = row.arguments(Call(steps=STEPS, cfg=False))
    scorer = TokenRankScorer(stride=stride)
    plain = run(pipe, arguments)
    with SelfAttentionGuidance(scorer, SCALE, reuse=reuse, keep_contrast=0)(pipe) as guidance:
        found = run(pipe, arguments)
    wanted = guided_by_hand(name, reuse, dense if stride == 1 else every_second)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert (found - plain).abs().max() > 0.01
    assert [step.number for step in guidance.steps] == passes(name, reuse)
