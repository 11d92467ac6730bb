"""Rows of pipelines whose frames attend each to itself, and over time apart: three frames of latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as d
import torch

from tests import tiny_factorised as tiny
from tests.matrix.building import Arguments, Row, quiet, seeded
from tests.matrix.video import PICTURE, WIDTH, count, pictures, prompts, sized
from tests.tiny_clips import picture_encoder, picture_processor
from tests.tiny_models import Call, ddim
from tests.tiny_networks import vae

FRAMES = 3
ONE = ("two prompts, two images each",)  # which their pipelines do not take
SILENT = ("callback_on_step_end",)


def videos(call: Call) -> Arguments:
    return prompts(call) | sized(call) | {"num_frames": FRAMES}


def film(frames: int = FRAMES) -> list[Any]:
    """One picture, darker and darker."""
    return [PICTURE.point(lambda value, i=i: int(value * (1 - i / 6))) for i in range(frames)]


def controlled(call: Call) -> Arguments:
    return videos(call) | {"conditioning_frames": film()}


def sparse(call: Call) -> Arguments:
    return videos(call) | {"conditioning_frames": film(1), "controlnet_frame_indices": [1]}


def redrawn(call: Call) -> Arguments:
    given = prompts(call) | sized(call) | {"strength": 0.9}
    return given | {"video": [film()] * count(call) if count(call) > 1 else film()}


def pooled(call: Call) -> Arguments:
    given = videos(call) | {"pooled_prompt_embeds": torch.ones(count(call), WIDTH)}
    return given | ({"negative_pooled_prompt_embeds": -torch.ones(count(call), WIDTH)} if call.cfg else {})


def built(cls: type, unet: Callable[[], Any], **parts: Any) -> Any:
    """A pipeline without text encoders."""
    given = {"vae": seeded(vae), "text_encoder": None, "tokenizer": None, "scheduler": ddim()}
    return quiet(cls(unet=seeded(unet), **given | parts))


def animated(cls: type, unet: Callable[[], Any] = tiny.motion, **parts: Any) -> Any:
    return built(cls, unet, motion_adapter=None, **parts)


def pictured(call: Call) -> Arguments:
    return videos(call) | {"image": PICTURE}


ANIMATED_ROWS = {
    "AnimateDiff": Row("video", lambda: animated(d.AnimateDiffPipeline), own=videos),
    "AnimateDiff, without motion in the middle": Row(
        "video", lambda: animated(d.AnimateDiffPipeline, lambda: tiny.motion(middle=False)), own=videos
    ),
    "AnimateDiffSDXL": Row(
        "video",
        lambda: animated(d.AnimateDiffSDXLPipeline, tiny.motion_xl, text_encoder_2=None, tokenizer_2=None),
        own=pooled,
    ),
    "AnimateDiffControlNet": Row(
        "video",
        lambda: animated(d.AnimateDiffControlNetPipeline, controlnet=seeded(tiny.controlnet)),
        own=controlled,
        without=ONE,
    ),
    "AnimateDiffSparseControlNet": Row(
        "video",
        lambda: animated(d.AnimateDiffSparseControlNetPipeline, controlnet=seeded(tiny.sparse_controlnet)),
        own=sparse,
    ),
    "AnimateDiffVideoToVideo": Row("video", lambda: animated(d.AnimateDiffVideoToVideoPipeline), own=redrawn),
    "AnimateDiffVideoToVideoControlNet": Row(
        "video",
        lambda: animated(d.AnimateDiffVideoToVideoControlNetPipeline, controlnet=seeded(tiny.controlnet)),
        own=lambda call: redrawn(call) | {"conditioning_frames": film()},
        without=ONE,
    ),
    "AnimateDiffPAG": Row(
        "video",
        lambda: animated(d.AnimateDiffPAGPipeline),
        {"pag_scale": 2.0},
        own=videos,
        leaves=("processors",),
    ),
    "PIA": Row("video", lambda: animated(d.PIAPipeline, lambda: tiny.motion(9)), own=pictured),
}


def continuous() -> Any:
    """Stable Video Diffusion's own: v-prediction, Karras' sigmas up to 700, times that are no steps."""
    return d.EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        interpolation_type="linear",
        beta_schedule="scaled_linear",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
    )


def stable_video() -> Any:
    pipe = d.StableVideoDiffusionPipeline(
        vae=seeded(tiny.stable_video_vae),
        image_encoder=seeded(picture_encoder),
        unet=seeded(tiny.stable_video),
        scheduler=continuous(),
        feature_extractor=picture_processor(),
    )
    return quiet(pipe)


def seen(call: Call) -> Arguments:
    """Guided more from frame to frame, beginning with none."""
    given = {"max_guidance_scale": 3.0 if call.cfg else 1.0, "num_frames": FRAMES}
    own = {name: value for name, value in sized(call).items() if name != "guidance_scale"}
    return own | given | {"image": pictures(call)}


def latte() -> Any:
    pipe = d.LattePipeline(
        tokenizer=None,
        text_encoder=None,
        vae=seeded(vae),
        transformer=seeded(tiny.latte),
        scheduler=ddim(),
    )
    return quiet(pipe)


def latte_text(call: Call) -> Arguments:
    return prompts(call) | sized(call) | {"video_length": FRAMES, "mask_feature": False}


FACTORISED_ROWS: dict[str, Row] = ANIMATED_ROWS | {
    "StableVideoDiffusion": Row("video", stable_video, own=seen),
    "Latte": Row("video", latte, {"negative_prompt": None}, own=latte_text),
    "TextToVideoSD": Row(
        "video", lambda: built(d.TextToVideoSDPipeline, tiny.text_to_video), own=videos, without=SILENT
    ),
    "VideoToVideoSD": Row(
        "video",
        lambda: built(d.VideoToVideoSDPipeline, tiny.text_to_video),
        drop=("height", "width"),
        own=redrawn,
        without=(*SILENT, *ONE),
    ),
    "I2VGenXL": Row(
        "video",
        lambda: built(
            d.I2VGenXLPipeline,
            tiny.image_to_video,
            image_encoder=seeded(picture_encoder),
            feature_extractor=picture_processor(),
        ),
        own=lambda call: videos(call) | {"image": [PICTURE] * count(call)},
        without=SILENT,
    ),
}
