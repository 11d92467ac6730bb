"""Rows of FLUX's twins and of the transformers that are nearly so."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers as d
import torch
from diffusers.guiders import AdaptiveProjectedMixGuidance

from tests import tiny_alone as alone
from tests import tiny_twins as twins
from tests.matrix.building import IMAGE, MASK, SIDE, Arguments, Row
from tests.matrix.later import PICTURE
from tests.tiny_models import NEGATIVE, PROMPT, Call


def text(call: Call) -> Arguments:
    """A prompt and the same negative one for each image."""
    return {
        "prompt": [f"{PROMPT} {i}" for i in range(call.batch)],
        "negative_prompt": [NEGATIVE] * call.batch if call.cfg else None,
        "guidance_scale": 3.0 if call.cfg else 1.0,
        "num_images_per_prompt": call.images_per_prompt,
        "height": SIDE,
        "width": SIDE,
        "output_type": "latent",
    }


def short(call: Call) -> Arguments:
    return text(call) | {"max_sequence_length": 16}


def row(
    family: str,
    build: Callable[[], Any],
    own: Callable[[Call], Arguments],
    refused: str = "",
    **extra: Any,
) -> Row:
    return Row(family, lambda: twins.made(build), extra, own=own, refused=refused)


def chroma(cls: type) -> Any:
    pipe = cls(**twins.chroma_parts())
    pipe.vae.register_to_config(shift_factor=0.1)
    if cls is d.ChromaInpaintPipeline:  # asks for it, of a network that has none
        pipe.transformer.register_to_config(guidance_embeds=False)
    return pipe


def sixteenths(call: Call) -> Arguments:
    """A latent is sixteen pixels a side, and each is a token."""
    return text(call) | {"height": 128, "width": 128}


def instructed(call: Call) -> Arguments:
    """A prompt is an instruction in JSON."""
    prompts = [json.dumps({"edit_instruction": f"{PROMPT} {i}"}) for i in range(call.batch)]
    return sixteenths(call) | {"prompt": prompts}


def edited(call: Call) -> Arguments:
    """One prompt, and no size: it draws a million pixels."""
    given = text(call) | {"prompt": PROMPT, "negative_prompt": NEGATIVE if call.cfg else None}
    return {name: value for name, value in given.items() if name not in ("height", "width")}


def single(call: Call) -> Arguments:
    """It cannot draw several images with classifier-free guidance."""
    given = text(call) | {"use_resolution_binning": False}
    if call.batch * call.images_per_prompt > 1:
        given["guidance_scale"] = 1.0
    return given | {"negative_prompt": given["negative_prompt"] or ""}


def quoted(call: Call) -> Arguments:
    """Quoted words are read by the second text encoder too; the prompt's guider is a part of the pipeline."""
    given = text(call) | {"prompt": [f'a red "box{"!" * i}"' for i in range(call.batch)]}
    return {name: value for name, value in given.items() if name != "guidance_scale"}


def krea(call: Call) -> Arguments:
    return text(call) | {"guidance_scale": 2.0 if call.cfg else 0.0, "max_sequence_length": 24}


def modular(call: Call) -> Arguments:
    """Embeddings of prompts, of two layers of an encoder."""
    prompt = torch.randn(call.batch, 7, 2, 16, generator=torch.Generator().manual_seed(8))
    return {
        "prompt_embeds": prompt,
        "prompt_embeds_mask": torch.ones(call.batch, 7, dtype=torch.bool),
        "num_images_per_prompt": call.images_per_prompt,
        "height": SIDE,
        "width": SIDE,
        "output": "latents",
        "output_type": "pt",
    }


def cog_scheduler(cls: type, **options: Any) -> Any:
    return cls(beta_schedule="scaled_linear", prediction_type="v_prediction", **options)


def guider(**options: Any) -> Any:
    return AdaptiveProjectedMixGuidance(
        guidance_scale=3.0, adaptive_projected_guidance_start_step=1, **options
    )


FAMILIES = (
    *("chroma", "ovis", "longcat", "bria", "fibo", "fibo2", "cogview4", "cogview3"),
    *("prx", "hyimage", "krea2"),
)
HUGE = "longcat-edit"  # draws a million pixels
BLOCKS = "krea2-modular"
WITHOUT_LORA = ("cogview3", "prx")
WITHOUT_LORA_SCALE = (*WITHOUT_LORA, "longcat", "fibo2")  # which their networks are not given
WITHOUT_CALLBACK = ("longcat",)
WITHOUT_INTERRUPT = ("longcat", "prx")
WITH_FUSED_QKV = ("chroma", "longcat")
WITH_FIRST_BLOCK = ("cogview4", "hyimage")
WITH_BROADCAST = ("chroma", "ovis", "longcat", "bria", "cogview4", "hyimage")


def but(*families: str) -> tuple[str, ...]:
    """Those that have a feature, where these do not."""
    return tuple(family for family in FAMILIES if family not in families)


TWIN_ROWS: dict[str, Row] = {
    "Chroma": row("chroma", partial(chroma, d.ChromaPipeline), short),
    "ChromaImg2Img": row(
        "chroma", partial(chroma, d.ChromaImg2ImgPipeline), short, image=IMAGE, strength=0.9
    ),
    "ChromaInpaint": row(
        "chroma",
        partial(chroma, d.ChromaInpaintPipeline),
        short,
        image=IMAGE,
        mask_image=MASK,
        strength=0.9,
    ),
    "OvisImage": row("ovis", twins.ovis_pipeline, short),
    "LongCatImage": row("longcat", twins.longcat_pipeline, text, enable_prompt_rewrite=False),
    "LongCatImage, without renormalising": row(
        "longcat", twins.longcat_pipeline, text, enable_prompt_rewrite=False, enable_cfg_renorm=False
    ),
    "LongCatImageEdit": row(HUGE, twins.longcat_edit_pipeline, edited, image=PICTURE),
    "Bria": row("bria", alone.bria_pipeline, short),
    "BriaFibo": row("fibo", lambda: d.BriaFiboPipeline(**alone.fibo_parts()), sixteenths),
    "BriaFibo, do_patching": row(
        "fibo",
        lambda: d.BriaFiboPipeline(**alone.fibo_parts()),
        lambda call: text(call) | {"height": 256, "width": 256},
        do_patching=True,
    ),
    "BriaFiboEdit": row(
        "fibo", lambda: d.BriaFiboEditPipeline(**alone.fibo_parts()), instructed, image=PICTURE
    ),
    "BriaFibo2": row("fibo2", alone.fibo2_pipeline, text),
    "BriaFibo2, reference image": row("fibo2", alone.fibo2_pipeline, text, image=PICTURE),
    "CogView4": row("cogview4", lambda: d.CogView4Pipeline(**alone.cogview4_parts()), short),
    "CogView4Control": row(
        "cogview4",
        lambda: d.CogView4ControlPipeline(**alone.cogview4_parts(8)),
        short,
        control_image=IMAGE,
    ),
    "CogView3Plus": row(
        "cogview3", lambda: alone.cogview3_pipeline(cog_scheduler(d.CogVideoXDDIMScheduler)), short
    ),
    "CogView3Plus, DPM": row(
        "cogview3", lambda: alone.cogview3_pipeline(cog_scheduler(d.CogVideoXDPMScheduler)), short
    ),
    "PRX": row("prx", alone.prx_pipeline, single),
    "PRXPixel": row("prx", alone.prx_pixel_pipeline, lambda call: single(call) | {"height": 16, "width": 16}),
    "HunyuanImage": row("hyimage", alone.hunyuan_image_pipeline, quoted),
    "HunyuanImage, guider": row("hyimage", lambda: alone.hunyuan_image_pipeline(guider()), quoted),
    "HunyuanImage, mean flow": row(
        "hyimage",
        alone.mean_flow_pipeline,
        quoted,
        refused="predicts the mean flow between two noise levels",
    ),
    "HunyuanImageRefiner": row("hyimage", alone.hunyuan_refiner_pipeline, quoted, image=IMAGE),
    "HunyuanImageRefiner, guider": row(
        "hyimage", lambda: alone.hunyuan_refiner_pipeline(guider()), quoted, image=IMAGE
    ),
    "Krea2": row("krea2", alone.krea2_pipeline, krea),
    "Krea2TurboModular": row(BLOCKS, alone.krea2_turbo, modular),
}
