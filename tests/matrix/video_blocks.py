"""Modular pipelines of videos, each beside the classic pipeline of the same denoisers and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers as d
import numpy as np
import torch
from torch import nn

from tests import tiny_videos as tiny
from tests.matrix.building import Arguments, seeded
from tests.matrix.helios import chunk, helios
from tests.matrix.modular import BY_THE_GUIDER
from tests.matrix.rows import ROWS
from tests.matrix.video import PICTURE, WIDTH, Own, pictured, pictured_wan, seen, text_to_video, wan
from tests.matrix.video_later import seen_15
from tests.tiny_models import Call, sharpen

SCALE, SCALE_2, BOUNDARY = 5.0, 3.0, 0.9


@dataclass(frozen=True)
class Case:
    """`blocks` by name, the classic pipeline that `build` makes, and what its call is given."""

    blocks: str
    build: Callable[[], Any]
    own: Own

    def given(self, call: Call) -> Arguments:
        """Pictures as files are, which blocks and classic pipelines scale alike."""
        given = self.own(call) | {"num_inference_steps": call.steps}
        return given | ({"image": PICTURE} if "image" in given else {})

    def to_blocks(self, blocks: Any, call: Call) -> Arguments:
        """What blocks take of that; a text that is not wanted even where they have no use for it."""
        names = {one.name for one in blocks.blocks.inputs}
        whole = self.own(Call(cfg=True, steps=call.steps)) | self.given(call) | {"output_type": "np"}
        return {name: value for name, value in whole.items() if name in names}


def of_row(blocks: str, row: str) -> Case:
    own = ROWS[row].own
    assert own is not None
    return Case(blocks, ROWS[row].build, own)


def second(build: Callable[[], nn.Module]) -> Any:
    """Another network of the same shape."""
    network = seeded(build)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network.load_state_dict(build().state_dict())
    sharpen(network)
    return network


def two_wans(cls: type, build: Callable[[], nn.Module], make: Callable[..., Any] = wan) -> Any:
    """Wan 2.2: one denoiser where it is noisy, another where it is not."""
    return make(cls, build, transformer_2=second(build), boundary_ratio=BOUNDARY)


def without_text(name: str) -> Callable[[], Any]:
    """The blocks but their text encoder, as prompts are embeddings."""

    def build() -> Any:
        blocks = BY_THE_GUIDER[name]()
        del blocks.sub_blocks["text_encoder"]
        return blocks

    return build


def unseeing() -> Any:
    """HunyuanVideo 1.5's blocks set what its encoder sees of a picture to zero, before they draw."""
    pipe = ROWS["HunyuanVideo15ImageToVideo"].build()
    pipe.encode_image = lambda **given: torch.zeros(1, 4, WIDTH)
    return pipe


def whole_times(call: Call) -> Arguments:
    """Helios' blocks round timesteps down before their denoiser is given them."""
    return chunk(call) | {"sigmas": np.linspace(0.9, 0.3, call.steps).round(3)}


CASES = {
    "wan": of_row("wan", "Wan"),
    "wan-i2v": Case(
        "wan-i2v",
        lambda: pictured_wan(d.WanImageToVideoPipeline, lambda: tiny.wan(10, **tiny.SEEING)),
        seen,
    ),
    "wan22": Case("wan22", lambda: two_wans(d.WanPipeline, tiny.wan), text_to_video),
    "wan22-i2v": Case(
        "wan22-i2v",
        lambda: two_wans(d.WanImageToVideoPipeline, lambda: tiny.wan(10), pictured_wan),
        pictured,
    ),
    "wan22-vace": Case("wan22-vace", lambda: two_wans(d.WanVACEPipeline, tiny.wan_vace), text_to_video),
    "ltx": of_row("ltx", "LTX"),
    "ltx-i2v": of_row("ltx", "LTXImageToVideo"),
    "hunyuan-video-15": of_row("hunyuan-video-15", "HunyuanVideo15"),
    "helios": Case("helios", lambda: helios(use_dynamic_shifting=False), whole_times),
    "hunyuan-video-15-i2v": Case("hunyuan-video-15", unseeing, seen_15),
}
