"""Rows of further video pipelines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers as d
import torch
from torch import nn

from tests import tiny_dits as dits
from tests import tiny_videos as tiny
from tests.matrix.building import Arguments, Row, seeded
from tests.matrix.video import (
    FRAMES,
    PICTURE,
    WIDTH,
    after_first,
    built,
    count,
    film,
    flow,
    hunyuan,
    hunyuan_text,
    masked,
    pictured_wan,
    pictures,
    prompts,
    sized,
    text_to_video,
)
from tests.tiny_models import Call

LONG = 9  # frames, of which a VAE that halves them twice makes three


def guided(call: Call) -> Arguments:
    """Those of pipelines that leave classifier-free guidance to a guider, which is on."""
    given = masked(replace(call, cfg=True))
    del given["guidance_scale"]
    return given


def two_texts(call: Call) -> Arguments:
    """Two encoders, of which the second reads words that are to be written."""
    given = guided(call)
    for name in ("prompt", "negative_prompt"):
        mask = given.pop(f"{name}_attention_mask", None)
        if f"{name}_embeds" in given:
            other = torch.randn(count(call), 5, WIDTH, generator=torch.Generator().manual_seed(9))
            given |= {f"{name}_embeds_mask": mask, f"{name}_embeds_2": other}
            given[f"{name}_embeds_mask_2"] = torch.ones(count(call), 5, dtype=torch.long)
    return given


def hunyuan_15(cls: type, **parts: Any) -> Any:
    pipe = hunyuan(
        cls,
        tiny.hunyuan_video_15,
        tiny.hunyuan_video_15_vae,
        guider=d.ClassifierFreeGuidance(5.0),
        **parts,
    )
    pipe.vision_num_semantic_tokens = 4
    return pipe


def framepack_picture(call: Call) -> Arguments:
    """Decoded: of latents there is a list, a part of the video each."""
    own = {"latent_window_size": 2, "num_frames": FRAMES, "image": pictures(call), "output_type": "pt"}
    return hunyuan_text(call) | own


def motif(cls: type, **parts: Any) -> Any:
    return built(
        cls, tiny.wan_vae, tiny.motif, guider=d.ClassifierFreeGuidance(5.0), feature_extractor=None, **parts
    )


def easyanimate(cls: type, channels: int) -> Any:
    return built(cls, tiny.easyanimate_vae, lambda: tiny.easyanimate(channels))


def animated(call: Call) -> Arguments:
    return masked(call, 64) | {"num_frames": LONG}


def redrawn(call: Call) -> Arguments:
    """All of it: other masks its pipeline resizes by a setting that its autoencoder does not have."""
    given = film(call).movedim(1, 2)
    return animated(call) | {"video": given, "mask_video": torch.full_like(given[:, :1], 255)}


class Guard(nn.Module):
    """In place of Cosmos' guardrail, which is a package of its own, as in diffusers' tests."""

    device, dtype = torch.device("cpu"), torch.float32

    def check_text_safety(self, text: str) -> bool:
        return True


def cosmos() -> Any:
    return built(
        d.Cosmos2_5_PredictBasePipeline,
        tiny.wan_vae,
        tiny.cosmos,
        scheduler=flow(),
        safety_checker=Guard(),
    )


def transferring() -> Any:
    """Control blocks are beside the transformer's first and third."""

    def controlnet() -> d.CosmosControlNetModel:
        return d.CosmosControlNetModel(
            n_controlnet_blocks=2,
            in_channels=6,
            latent_channels=6,  # with its two masks
            model_channels=32,
            num_attention_heads=2,
            attention_head_dim=16,
            mlp_ratio=2.0,
            text_embed_dim=16,
            adaln_lora_dim=8,
            max_size=(8, 32, 32),
            encoder_hidden_states_channels=16,
        )

    return built(
        d.Cosmos2_5_TransferPipeline,
        tiny.wan_vae,
        lambda: tiny.cosmos(controlnet_block_every_n=2, max_size=(8, 32, 32)),
        scheduler=flow(),
        controlnet=seeded(controlnet),
        safety_checker=Guard(),
    )


def controlled(call: Call) -> Arguments:
    return text_to_video(call) | {"controls": film(call), "num_frames_per_chunk": FRAMES}


def kandinsky(cls: type, seen: bool) -> Any:
    def transformer() -> Any:
        return dits.kandinsky5(visual_cond=seen)

    return built(cls, tiny.hunyuan_video_vae, transformer, text_encoder_2=None, tokenizer_2=None)


def kandinsky_text(call: Call) -> Arguments:
    given = prompts(call) | sized(call) | {"num_frames": LONG}
    lengths = torch.arange(count(call) + 1) * 7
    for name in ("prompt", "negative_prompt"):
        text = given.pop(f"{name}_embeds", None)
        if text is not None:
            given |= {f"{name}_embeds_qwen": text, f"{name}_embeds_clip": text.mean(1)}
            given[f"{name}_cu_seqlens"] = lengths.int()
    return given


def seen_15(call: Call) -> Arguments:
    """Its picture tells the size."""
    given = two_texts(call) | {"image": PICTURE}
    return {name: value for name, value in given.items() if name not in ("height", "width")}


def animate() -> Any:
    """Its VAE halves frames twice, as its mask and its faces take for granted."""
    return pictured_wan(d.WanAnimatePipeline, tiny.wan_animate, tiny.wan_vae_of_quarters)


def animation(call: Call) -> Arguments:
    given = prompts(call, 512) | sized(call) | {"image": PICTURE, "segment_frame_length": LONG}
    return given | dict.fromkeys(("pose_video", "face_video"), [PICTURE] * LONG) | {"output_type": "pt"}


LATER_VIDEO_ROWS: dict[str, Row] = {
    "HunyuanVideo15": Row("video", lambda: hunyuan_15(d.HunyuanVideo15Pipeline), own=two_texts),
    "HunyuanVideo15ImageToVideo": Row(
        "video",
        lambda: hunyuan_15(
            d.HunyuanVideo15ImageToVideoPipeline,
            image_encoder=seeded(tiny.siglip),
            feature_extractor=tiny.siglip_processor(),
        ),
        own=seen_15,
    ),
    "WanAnimate": Row("video", animate, own=animation),
    "MotifVideoImage2Video": Row(
        "video",
        lambda: motif(d.MotifVideoImage2VideoPipeline),
        own=lambda call: guided(call) | {"image": PICTURE, "prompt": None},
    ),
    "HunyuanVideoFramepack": Row(
        "video",
        lambda: hunyuan(
            d.HunyuanVideoFramepackPipeline,
            tiny.framepack,
            image_encoder=seeded(tiny.siglip),
            feature_extractor=tiny.siglip_processor(),
        ),
        own=framepack_picture,
    ),
    "MotifVideo": Row("video", lambda: motif(d.MotifVideoPipeline), own=guided),
    "EasyAnimate": Row("video", lambda: easyanimate(d.EasyAnimatePipeline, 4), own=animated),
    "EasyAnimateInpaint": Row("video", lambda: easyanimate(d.EasyAnimateInpaintPipeline, 9), own=redrawn),
    "Cosmos2_5_PredictBase": Row("video", cosmos, own=text_to_video),
    "Cosmos2_5_PredictBase, first frame": Row(
        "video", cosmos, own=lambda call: text_to_video(call) | {"image": PICTURE}, drawn=after_first
    ),
    "Cosmos2_5_Transfer": Row("video", transferring, own=controlled),
    "Mochi": Row(
        "video",
        lambda: built(
            d.MochiPipeline,
            tiny.mochi_vae,
            tiny.mochi,
            scheduler=d.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        ),
        own=lambda call: masked(call, 128) | {"num_frames": 13},
    ),
    "Kandinsky5T2V": Row("video", lambda: kandinsky(d.Kandinsky5T2VPipeline, False), own=kandinsky_text),
    "Kandinsky5I2V": Row(
        "video",
        lambda: kandinsky(d.Kandinsky5I2VPipeline, True),
        own=lambda call: kandinsky_text(call) | {"image": pictures(call), "num_frames": 21},
        drawn=lambda output: output[:, 1:],
    ),
}
