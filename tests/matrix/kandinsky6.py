"""Rows of Kandinsky 6: a video and its sound, each with a scheduler, or a video alone."""

from __future__ import annotations

from typing import Any

import diffusers as d
from torch import Tensor

from tests import tiny_kandinsky6 as tiny
from tests.matrix.building import Arguments, Row, seeded
from tests.matrix.video import built, pictures, prompts, sized
from tests.matrix.video_later import LONG
from tests.tiny_models import Call
from tests.tiny_videos import hunyuan_video_vae


def kandinsky() -> Any:
    return built(
        d.Kandinsky6TI2VAPipeline,
        hunyuan_video_vae,
        tiny.kandinsky6,
        text_encoder_2=None,
        tokenizer_2=None,
        audio_vae=seeded(tiny.sound_vae),
        vocoder=seeded(tiny.vocoder),
    )


def loud(call: Call) -> Arguments:
    given = prompts(call) | sized(call) | {"num_frames": LONG}
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        if name in given:
            given[name.replace("prompt", "pooled_prompt")] = given[name].mean(1)
    return given


def pictured(call: Call) -> Arguments:
    """One picture, which is repeated for each video of a prompt."""
    return loud(call) | {"image": pictures(call)}


def own(output: Tensor) -> Tensor:
    """Frames before the picture's."""
    return output[:, :-1]


KANDINSKY6_ROWS: dict[str, Row] = {
    "Kandinsky6TI2VA": Row("video", kandinsky, own=loud),
    "Kandinsky6TI2VA, silent": Row("video", kandinsky, {"sample_audio": False}, own=loud),
    "Kandinsky6TI2VA, first frame": Row("video", kandinsky, own=pictured, drawn=own),
}
