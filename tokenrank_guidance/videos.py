"""TokenRank of videos: what each token of each frame is worth, of one record or while a pipeline draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tokenrank_guidance.capture import AttentionRecord, AttentionTap
from tokenrank_guidance.capture.layers import Layers
from tokenrank_guidance.components import denoisers_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.markov import tokenrank_score
from tokenrank_guidance.markov.heads import HeadWeights


@torch.no_grad()
def frame_scores(
    record: AttentionRecord, *, damping: float = 0.99, head_weights: HeadWeights = "mean"
) -> Float[Tensor, "videos t h w"]:
    """N·π of a video's tokens, mean 1: over all frames where they share a map, else in each frame.

    Text and other tokens are left out of the chain. Raises ValueError for the map of a picture or of an
    unknown grid, and what `tokenrank_score` raises.
    """
    grid, frames = record.grid, record.frames
    if grid is None or (frames is None and len(grid) == 2):
        size = "unknown" if grid is None else "×".join(map(str, grid))
        raise ValueError(f"{record.module or 'this record'} has a grid of {size} tokens; expected a video's")
    score = tokenrank_score(record.restrict("image"), damping=damping, head_weights=head_weights)
    return score.view(-1, *grid) if frames is None else score.view(-1, frames, *grid)


@dataclass(frozen=True)
class RankedVideo:
    """A drawn video and the score of its tokens, mean 1, the mean over layers and denoiser calls."""

    frames: list[Image.Image]
    scores: Float[Tensor, "t h w"]

    def shown(self) -> list[Image.Image]:
        """The frame that stands for each of the `t` of latents, of which autoencoders make several."""
        count, last = len(self.scores), len(self.frames) - 1
        return [self.frames[round(i * last / max(count - 1, 1))] for i in range(count)]


def rank_video(
    pipe: Any,
    arguments: Mapping[str, Any],
    *,
    layers: Layers = "auto",
    damping: float = 0.99,
    head_weights: HeadWeights = "mean",
) -> RankedVideo:
    """Call `pipe` with `arguments`, which draw one video, and rank its tokens in every denoiser call.

    Both halves of classifier-free guidance count alike. Raises ValueError for layers that do not exist,
    UnsupportedError for an unknown denoiser, for what gives no video, and once a second section of it is
    drawn (Helios, Framepack), whose frames are others; CaptureError where a layer ran unseen.
    """
    schedules: list[Any] = []

    def score(record: AttentionRecord) -> Float[Tensor, "t h w"]:
        _notice_schedule(pipe, schedules)
        return frame_scores(record, damping=damping, head_weights=head_weights).mean(0).cpu()

    options: dict[str, Any] = {"keep": None, "reduce": score}
    taps = [AttentionTap(model, layers, **options) for model in denoisers_of(pipe)]
    try:
        for tap in taps:
            tap.attach()
        output = pipe(**arguments)
    finally:
        for tap in taps:
            tap.detach()
    # Of two denoisers that take turns one may not come to run, as in few steps.
    ran = [tap for tap in taps if tap.records] or taps
    found = [one for tap in ran for one in tap.pop()]
    if not hasattr(output, "frames"):
        made = type(output).__name__
        raise UnsupportedError(f"{type(pipe).__name__} gives a {made}; expected a video's frames")
    return RankedVideo(list(output.frames[0]), _mean(found))


def _notice_schedule(pipe: Any, seen: list[Any]) -> None:
    """Pipelines set timesteps anew for each section; the stages of a pyramid and FreeInit's draw the same."""
    current = pipe.scheduler.timesteps
    if not any(current is one for one in seen):
        seen.append(current)
    if len(seen) > pipe.scheduler.config.get("stages", 1) and not getattr(pipe, "free_init_enabled", False):
        raise UnsupportedError(
            f"{type(pipe).__name__} draws this video section by section, each of other frames, over which "
            "there is no mean: ask for fewer frames"
        )


def _mean(scores: list[Float[Tensor, "t h w"]]) -> Float[Tensor, "t h w"]:
    """On the finest layer's grid."""
    finest = max((score.shape for score in scores), key=lambda shape: shape.numel())
    fine = [F.interpolate(one[None, None], tuple(finest), mode="trilinear")[0, 0] for one in scores]
    mean = torch.stack(fine).mean(0)
    return mean / mean.mean()
