"""Rows of video pipelines: three latent frames of 8×8 tokens, prompts as embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as d
import torch
from PIL import Image
from torch import Tensor

from tests import tiny_videos as tiny
from tests.matrix.building import IMAGE, SIDE, Arguments, Row, quiet, seeded
from tests.tiny_models import Call

FRAMES = 5
WORDS, WIDTH = 7, 16
PICTURE = Image.fromarray((255 * IMAGE[0]).byte().movedim(0, -1).numpy())
Own = Callable[[Call], Arguments]


def count(call: Call) -> int:
    """Pipelines take an embedding for each video, not for each prompt."""
    return call.batch * call.images_per_prompt


def prompts(call: Call, words: int = WORDS) -> Arguments:
    """Embeddings of a prompt for each video, and of another for what is not wanted."""
    generator = torch.Generator().manual_seed(8)
    wanted, unwanted = torch.randn(2, count(call), words, WIDTH, generator=generator)
    return {"prompt_embeds": wanted} | ({"negative_prompt_embeds": unwanted} if call.cfg else {})


def sized(call: Call, side: int = SIDE) -> Arguments:
    scale = {"guidance_scale": 5.0 if call.cfg else 1.0}
    return scale | {"height": side, "width": side, "output_type": "latent"}


def text_to_video(call: Call) -> Arguments:
    return prompts(call) | sized(call) | {"num_frames": FRAMES}


def pictured(call: Call) -> Arguments:
    return text_to_video(call) | {"image": pictures(call)}


def seen(call: Call) -> Arguments:
    """One picture, and as many words as Wan's layers for pictures take for granted."""
    return text_to_video(call) | prompts(call, 512) | {"image": PICTURE}


def filmed(call: Call) -> Arguments:
    """A video in place of a number of frames."""
    return prompts(call) | sized(call) | {"video": film(call)}


def pictures(call: Call) -> Tensor:
    return torch.cat([IMAGE] * count(call))


def film(call: Call) -> Tensor:
    """Videos (videos, frames, channels, height, width), in [0, 1]."""
    shades = torch.linspace(1, 0.5, FRAMES)[None, :, None, None, None]
    return pictures(call).unsqueeze(1) * shades


def masked(call: Call, side: int = SIDE) -> Arguments:
    """Prompts of another length each, of which the rest is padding."""
    given = text_to_video(call) | sized(call, side)
    lengths = [WORDS - 1 - i for i in range(count(call))]
    mask = torch.tensor([[int(word < length) for word in range(WORDS)] for length in lengths])
    unwanted = {"negative_prompt_attention_mask": torch.ones_like(mask)} if call.cfg else {}
    return given | {"prompt_attention_mask": mask} | unwanted


def after_first(output: Tensor) -> Tensor:
    """Frames (batch, channels, frames, rows, columns) after the first."""
    return output[:, :, 1:]


def after_first_tokens(output: Tensor) -> Tensor:
    """Three frames one after the other."""
    return output[:, output.shape[1] // 3 :]


def flow(**options: Any) -> d.UniPCMultistepScheduler:
    """Wan's own: rectified flow by UniPC."""
    return d.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, **options
    )


def built(cls: type, vae: Callable[[], Any], transformer: Callable[[], Any], **parts: Any) -> Any:
    """A pipeline without text encoders."""
    given = {
        "vae": seeded(vae),
        "tokenizer": None,
        "text_encoder": None,
        "scheduler": d.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    return quiet(cls(transformer=seeded(transformer), **given | parts))


def wan(
    cls: type,
    transformer: Callable[[], Any] = tiny.wan,
    vae: Callable[[], Any] = tiny.wan_vae,
    **parts: Any,
) -> Any:
    return built(cls, vae, transformer, **{"scheduler": flow()} | parts)


def pictured_wan(
    cls: type,
    transformer: Callable[[], Any],
    vae: Callable[[], Any] = tiny.wan_vae,
    **parts: Any,
) -> Any:
    encoder = {"image_encoder": seeded(tiny.eyes), "image_processor": tiny.glasses()}
    return wan(cls, transformer, vae, **encoder | parts)


WAN_ROWS = {
    "Wan": Row("video", lambda: wan(d.WanPipeline), own=text_to_video),
    "Wan, expand_timesteps": Row(
        "video", lambda: wan(d.WanPipeline, expand_timesteps=True), own=text_to_video
    ),
    "WanImageToVideo": Row(
        "video", lambda: pictured_wan(d.WanImageToVideoPipeline, lambda: tiny.wan(10)), own=seen
    ),
    "WanImageToVideo, expand_timesteps": Row(
        "video",
        lambda: pictured_wan(d.WanImageToVideoPipeline, tiny.wan, expand_timesteps=True),
        own=seen,
        drawn=after_first,
    ),
    "WanVideoToVideo": Row("video", lambda: wan(d.WanVideoToVideoPipeline), {"strength": 0.9}, own=filmed),
    "WanVACE": Row("video", lambda: wan(d.WanVACEPipeline, tiny.wan_vace), own=text_to_video),
    "LucyEdit": Row(
        "video",
        lambda: wan(d.LucyEditPipeline, lambda: tiny.wan(8)),
        {"num_frames": FRAMES},
        own=filmed,
    ),
    "ChronoEdit": Row(
        "video",
        lambda: pictured_wan(d.ChronoEditPipeline, tiny.chronoedit),
        own=seen,
    ),
    "SkyReelsV2": Row("video", lambda: wan(d.SkyReelsV2Pipeline, tiny.skyreels), own=text_to_video),
    "SkyReelsV2ImageToVideo": Row(
        "video",
        lambda: pictured_wan(d.SkyReelsV2ImageToVideoPipeline, lambda: tiny.skyreels(10, **tiny.SEEING)),
        own=seen,
    ),
}


def ltx(cls: type) -> Any:
    scheduler = d.FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=cls is not d.LTXConditionPipeline
    )
    return built(cls, tiny.ltx_vae, tiny.ltx, scheduler=scheduler)


def ltx_text(call: Call) -> Arguments:
    return masked(call, 64)


LTX_ROWS = {
    "LTX": Row("video", lambda: ltx(d.LTXPipeline), own=ltx_text),
    "LTXImageToVideo": Row(
        "video",
        lambda: ltx(d.LTXImageToVideoPipeline),
        own=lambda call: ltx_text(call) | {"image": pictures(call)},
        drawn=after_first_tokens,
    ),
    "LTXCondition": Row("video", lambda: ltx(d.LTXConditionPipeline), own=ltx_text),
    "LTXCondition, first frame": Row(
        "video",
        lambda: ltx(d.LTXConditionPipeline),
        own=lambda call: ltx_text(call) | {"image": pictures(call)},
        drawn=after_first_tokens,
    ),
    "LTXCondition, last frame": Row(
        "video",
        lambda: ltx(d.LTXConditionPipeline),
        own=lambda call: ltx_text(call) | {"image": pictures(call), "frame_index": 4, "strength": 1.0},
        drawn=lambda output: output[:, output.shape[1] // 4 :],  # after the picture's tokens
    ),
}


def cogvideox(cls: type, transformer: Callable[[], Any], **parts: Any) -> Any:
    return built(cls, tiny.cogvideox_vae, transformer, **{"scheduler": d.CogVideoXDDIMScheduler()} | parts)


COGVIDEOX_ROWS = {
    "CogVideoX": Row("video", lambda: cogvideox(d.CogVideoXPipeline, tiny.cogvideox), own=text_to_video),
    "CogVideoX, DPM": Row(
        "video",
        lambda: cogvideox(d.CogVideoXPipeline, tiny.cogvideox, scheduler=d.CogVideoXDPMScheduler()),
        own=text_to_video,
    ),
    "CogVideoX, 1.5": Row(
        "video",
        lambda: cogvideox(
            d.CogVideoXPipeline,
            lambda: tiny.cogvideox(patch_size_t=2, use_rotary_positional_embeddings=True, patch_bias=False),
        ),
        own=text_to_video,
    ),
    "CogVideoXImageToVideo": Row(
        "video", lambda: cogvideox(d.CogVideoXImageToVideoPipeline, lambda: tiny.cogvideox(8)), own=pictured
    ),
    "CogVideoXVideoToVideo": Row(
        "video",
        lambda: cogvideox(d.CogVideoXVideoToVideoPipeline, tiny.cogvideox),
        {"strength": 0.9},
        own=filmed,
    ),
    "CogVideoXFunControl": Row(
        "video",
        lambda: cogvideox(d.CogVideoXFunControlPipeline, lambda: tiny.cogvideox(8)),
        own=lambda call: prompts(call) | sized(call) | {"control_video": film(call)},
    ),
}


def hunyuan_text(call: Call) -> Arguments:
    """Distilled guidance beside the true one."""
    given = masked(call) | {"num_frames": 9}
    pooled = {"pooled_prompt_embeds": torch.ones(count(call), WIDTH)}
    if call.cfg:
        pooled["negative_pooled_prompt_embeds"] = -torch.ones(count(call), WIDTH)
    return given | pooled | {"true_cfg_scale": 5.0 if call.cfg else 1.0, "guidance_scale": 6.0}


def hunyuan_picture(call: Call) -> Arguments:
    return hunyuan_text(call) | {"image": pictures(call)}


def hunyuan(
    cls: type, transformer: Callable[[], Any], vae: Callable[[], Any] = tiny.hunyuan_video_vae, **parts: Any
) -> Any:
    return built(cls, vae, transformer, text_encoder_2=None, tokenizer_2=None, **parts)


HUNYUAN_ROWS = {
    "HunyuanVideo": Row(
        "video", lambda: hunyuan(d.HunyuanVideoPipeline, tiny.hunyuan_video), own=hunyuan_text
    ),
    "HunyuanVideoImageToVideo": Row(
        "video",
        lambda: hunyuan(
            d.HunyuanVideoImageToVideoPipeline,
            lambda: tiny.hunyuan_video(9, image_condition_type="latent_concat"),
            image_processor=None,
        ),
        own=hunyuan_picture,
    ),
    "HunyuanVideoImageToVideo, token_replace": Row(
        "video",
        lambda: hunyuan(
            d.HunyuanVideoImageToVideoPipeline,
            lambda: tiny.hunyuan_video(image_condition_type="token_replace"),
            image_processor=None,
        ),
        own=hunyuan_picture,
        drawn=after_first,
    ),
    "HunyuanSkyreelsImageToVideo": Row(
        "video",
        lambda: hunyuan(d.HunyuanSkyreelsImageToVideoPipeline, lambda: tiny.hunyuan_video(8)),
        own=hunyuan_picture,
    ),
}


def allegro_text(call: Call) -> Arguments:
    given = masked(call, 128)
    return given | {"clean_caption": False, "negative_prompt": None}


OTHER_ROWS = {
    "Allegro": Row(
        "video",
        lambda: built(
            d.AllegroPipeline, tiny.allegro_vae, tiny.allegro, scheduler=d.EulerAncestralDiscreteScheduler()
        ),
        own=allegro_text,
    ),
}

VIDEO_ROWS: dict[str, Row] = WAN_ROWS | LTX_ROWS | COGVIDEOX_ROWS | HUNYUAN_ROWS | OTHER_ROWS
