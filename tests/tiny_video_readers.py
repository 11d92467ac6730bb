"""Tiny pipelines that draw videos and read captions as the real ones do. A character is a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers as d

from tests import tiny_networks as networks
from tests import tiny_videos as videos
from tests.matrix.building import seeded
from tests.matrix.video import built


@dataclass(frozen=True)
class VideoReader:
    """A pipeline, and what its call takes beside a prompt, a size and a number of frames.

    `frames` of `size` pixels, of `grid` tokens. `first`: the first layer in which text and video share a map.
    `scales`: how to ask for classifier-free guidance, and for none.
    """

    build: Callable[[], Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    grid: tuple[int, int, int] = (3, 8, 6)
    size: tuple[int, int] = (32, 24)
    frames: int = 5
    first: str = "transformer_blocks.0.attn1"
    scales: Sequence[Mapping[str, Any]] = ({}, {"cfg": 1.0})


def cogvideox(**options: Any) -> Any:
    """Its tables of positions hold as many words as it reads."""
    text = {"text_embed_dim": 32, "max_text_seq_length": 226}
    size = {"sample_height": 16, "sample_width": 12}
    return built(
        d.CogVideoXPipeline,
        videos.cogvideox_vae,
        lambda: videos.cogvideox(**text, **size, **options),
        scheduler=d.CogVideoXDDIMScheduler(),
        tokenizer=networks.tokenizer(226),
        text_encoder=seeded(networks.t5),
    )


VIDEO_READERS: dict[str, VideoReader] = {"CogVideoX": VideoReader(cogvideox)}
