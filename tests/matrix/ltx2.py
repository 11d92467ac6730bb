"""Rows of LTX-2: a video and its sound, by up to four calls or parts of a call a step."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_hdr_lora import LTX2HDRReferenceCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition

from tests import tiny_ltx2 as tiny
from tests.matrix.building import Arguments, Row, quiet, seeded
from tests.matrix.video import FRAMES, PICTURE, masked
from tests.tiny_models import Call

FILM = [PICTURE] * FRAMES
NO_CODEC = {"crf": 0}  # which would compress pictures as videos are


def ltx2(cls: type) -> Any:
    parts = {
        "transformer": seeded(tiny.ltx2),
        "connectors": seeded(tiny.connectors),
        "vae": seeded(tiny.ltx2_vae),
        "audio_vae": seeded(tiny.sound_vae),
        "scheduler": d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    }
    return quiet(cls(**parts, text_encoder=None, tokenizer=None, vocoder=None))


def silent(call: Call) -> Arguments:
    """Classifier-free guidance alone, of the video."""
    alone = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0}
    return masked(call, 64) | {"num_frames": FRAMES} | alone


def loud(call: Call) -> Arguments:
    """And of its sound, by the video's scales."""
    scales = ("audio_guidance_scale", "audio_stg_scale", "audio_modality_scale")
    return silent(call) | dict.fromkeys(scales) | {"audio_guidance_rescale": 0.0}


def pictured(call: Call) -> Arguments:
    return loud(call) | {"image": PICTURE, "image_crf": 0}


def perturbed(call: Call) -> Arguments:
    """Two more calls a step: one without some attention, one whose video and sound do not meet."""
    return loud(call) | {"stg_scale": 1.0, "spatio_temporal_guidance_blocks": [1], "modality_scale": 3.0}


def placed(index: int, strength: float) -> LTX2VideoCondition:
    return LTX2VideoCondition(PICTURE, index, strength, **NO_CODEC)


def conditioned(*conditions: LTX2VideoCondition) -> Any:
    return lambda call: loud(call) | {"conditions": [*conditions]}


def after_first(output: torch.Tensor) -> torch.Tensor:
    """Three frames one after the other, and tokens that are given."""
    return output[:, 64:192]


def own(output: torch.Tensor) -> torch.Tensor:
    return output[:, :192]


LTX2_ROWS = {
    "LTX2": Row("video", lambda: ltx2(d.LTX2Pipeline), own=loud),
    "LTX2, perturbed": Row("video", lambda: ltx2(d.LTX2Pipeline), own=perturbed),
    "LTX2ImageToVideo": Row(
        "video", lambda: ltx2(d.LTX2ImageToVideoPipeline), own=pictured, drawn=after_first
    ),
    "LTX2Condition": Row("video", lambda: ltx2(d.LTX2ConditionPipeline), own=loud),
    "LTX2Condition, first and later frame": Row(
        "video",
        lambda: ltx2(d.LTX2ConditionPipeline),
        own=conditioned(placed(0, 1.0), placed(1, 0.7)),
        drawn=after_first,
    ),
    "LTX2InContext": Row(
        "video",
        lambda: ltx2(d.LTX2InContextPipeline),
        {"reference_conditions": [LTX2ReferenceCondition(FILM)], "conditioning_attention_strength": 0.5},
        own=loud,
        drawn=own,
    ),
    "LTX2HDR": Row(
        "video",
        lambda: ltx2(d.LTX2HDRPipeline),
        {"reference_conditions": [LTX2HDRReferenceCondition(FILM)]},
        own=silent,
        drawn=own,
    ),
}
