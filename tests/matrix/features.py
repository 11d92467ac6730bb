"""The columns of the support matrix: what a user combines guidance with.

A feature changes a built pipeline or the arguments of its call, or both. `families` lists the families that
it exists for: elsewhere its cell reads "not applicable".
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from tests.matrix import sana
from tests.matrix.beside import WITHOUT_CFG
from tests.matrix.embeddings import ENCODERS, prompt_embeddings
from tests.matrix.preparing import (
    add_ip_adapter,
    add_lora,
    add_textual_inversion,
    attention_broadcast,
    beside_another,
    cast,
    channels_last,
    compiled,
    deep_cache,
    embeddings_in,
    first_block_cache,
    freeu,
    fuse_lora,
    fused_qkv,
    group_offload,
    image_embeddings,
    inference,
    layerwise_casting,
    merged_tokens,
    model_offload,
    pass_on,
    scaled_lora,
    sequential_offload,
    sliced,
    stop_after_two,
    vae_tiling,
    with_learned_word,
)
from tests.matrix.rows import Arguments, Row
from tests.matrix.twins import (
    BLOCKS,
    FAMILIES,
    HUGE,
    WITH_BROADCAST,
    WITH_FIRST_BLOCK,
    WITH_FUSED_QKV,
    WITHOUT_CALLBACK,
    WITHOUT_INTERRUPT,
    WITHOUT_LORA,
    WITHOUT_LORA_SCALE,
    but,
)
from tests.tiny_models import Call

UNETS = ("sd", "sdxl")
TEXT = (*UNETS, "sd3", "flux", "pixart")
LATENT = (*TEXT, "dit")
LISTED = ("zimage", "hidream", "nucleus", "qwen21")
LATER_CFG = (
    *("qwen", "flux2-klein", "auraflow", "hunyuan", "kandinsky", "kandinsky5", "lumina", "lumina2"),
    *LISTED,
    *("kandinsky3", "ernie", "glm", "xs", "omnigen", "video", "cascade"),
)
LATER_LORA = ("qwen", "flux2", "flux2-klein", "auraflow", "lumina2")
WITH_LORA = (*UNETS, "sd3", "flux")
INTERRUPTIBLE = ("qwen", "flux2", "flux2-klein", "hunyuan", "kandinsky5", *LISTED)
LATER = (*LATER_CFG, "flux2", "sana")
EARLY = (*LATENT, "ddpm")
BESIDE = "beside"
EVERY = (*EARLY, *LATER, *FAMILIES)
ALL = (*EVERY, BESIDE, HUGE, BLOCKS)
CACHED = ("flux", "qwen")
CONTEXTLESS = ("CogView4Control", "FluxControl", "FluxControlNet", "FluxFill", "FluxImg2Img", "FluxKontext")
VALUEWISE = ("SemanticStableDiffusion", "StableDiffusionSafe")  # weights that least squares do not find
UNOFFLOADED = (
    "HunyuanDiT",  # its pooling cannot
    *("LongCatImage", "LongCatImage, without renormalising"),  # put their text where the weights lie
)
KANDINSKY = ("KandinskyV22", "KandinskyV22Inpaint")  # fail at it without guidance
CASTED = ("StableCascadePrior",)  # its pipeline makes embeddings in the dtype that weights are kept in
GAPS = ("WuerstchenDecoder", "WuerstchenCombined")  # in a list of layers, where diffusers looks for a hook
DUAL = ("StableDiffusion3", "StableDiffusion3Img2Img", "StableDiffusion3ControlNet")  # attention
ALONE = (*WITHOUT_CFG, *sana.WITHOUT_CFG)  # guide by no second half
PAG = ("SanaPAG", "SanaPAG, pag_scale 0")  # have no arguments for attention
ENCODED = ("ZImageOmni, reference image",)  # in bfloat16, and by SigLIP
# SigLIP cannot be offloaded layer by layer.
SIGLIP = (*ENCODED, "HunyuanVideo15ImageToVideo", "HunyuanVideoFramepack")
SHARED = ("ZImageControlNet", "ZImageControlNetInpaint")  # weights of both, which are offloaded once
ONE_PROMPT = ("StableDiffusionPanorama", "LongCatImageEdit", "WanVACE", "MotifVideoImage2Video")
CALLBACKLESS = ("HunyuanVideo15", "HunyuanVideo15ImageToVideo")
HALF = ("LucyEdit",)  # its pipeline gives its autoencoder pixels in float32
ADAPTER = ("StableDiffusionAdapter",)  # an older call, with fewer arguments


@dataclass(frozen=True)
class Feature:
    """`prepare` gives the pipeline to use, `arguments` those of the row's call, made from `call`.

    `without`: rows whose pipelines do not have it. `refused`: the text, or part of it, of the error that it
    raises together with guidance.
    """

    families: tuple[str, ...] = EVERY
    prepare: Callable[[Any], Any] = lambda pipe: pipe
    arguments: Callable[[Any, Arguments], Arguments] = lambda pipe, given: given
    call: Callable[[Call], Call] = lambda call: call
    without: tuple[str, ...] = ()
    refused: str = ""

    def fits(self, name: str, row: Row) -> bool:
        return row.family in self.families and name not in self.without


FEATURES: dict[str, Feature] = {
    "plain": Feature(ALL, call=lambda call: replace(call, cfg=False)),
    "CFG, negative prompt": Feature((*LATENT, *LATER_CFG, "sana", BESIDE, *FAMILIES, HUGE), without=ALONE),
    "two prompts, two images each": Feature(
        ALL,
        call=lambda call: replace(call, batch=2, images_per_prompt=2),
        without=(
            "StableDiffusionPanorama",
            "LongCatImageEdit",
            "WanVACE",
            "MotifVideoImage2Video",
        ),  # take one prompt
    ),
    "prompt embeddings": Feature(tuple(ENCODERS), arguments=prompt_embeddings),
    "bf16": Feature(ALL, cast(torch.bfloat16), embeddings_in(torch.bfloat16), without=HALF),
    "fp16": Feature(
        prepare=cast(torch.float16),
        arguments=embeddings_in(torch.float16),
        without=(*ENCODED, *HALF),
    ),
    "LoRA, scale 0.5": Feature(
        (*UNETS, "sd3", "flux", "qwen", "flux2", "flux2-klein", "sana", *LISTED, *but(*WITHOUT_LORA_SCALE)),
        add_lora,
        scaled_lora,
        without=PAG,
    ),
    "LoRA, fused": Feature((*WITH_LORA, *but(*WITHOUT_LORA)), fuse_lora),
    "textual inversion": Feature(UNETS, add_textual_inversion, with_learned_word, without=ADAPTER),
    "IP-Adapter": Feature(UNETS, add_ip_adapter, image_embeddings, without=ADAPTER),
    "model offload": Feature(prepare=model_offload),
    "sequential offload": Feature(prepare=sequential_offload, without=(*UNOFFLOADED, *SHARED, *SIGLIP)),
    "group offload": Feature(
        (*TEXT, "ddpm", *LATER, *FAMILIES), group_offload, without=("HunyuanDiT", *GAPS)
    ),
    "layerwise casting": Feature(prepare=layerwise_casting, without=(*KANDINSKY, *CASTED)),
    "guidance_rescale": Feature(
        UNETS, arguments=lambda pipe, given: given | {"guidance_rescale": 0.7}, without=ADAPTER
    ),
    "callback_on_step_end": Feature(
        (*UNETS, "sd3", "flux", *LATER, *but(*WITHOUT_CALLBACK)),
        arguments=lambda pipe, given: given | {"callback_on_step_end": pass_on},
        without=(*ADAPTER, *CALLBACKLESS),
    ),
    "interrupt": Feature(
        (*UNETS, "sd3", "flux", "sana", *INTERRUPTIBLE, *but(*WITHOUT_INTERRUPT)),
        arguments=lambda pipe, given: given | {"callback_on_step_end": stop_after_two},
        without=ADAPTER,
    ),
    "FreeU": Feature(UNETS, freeu),
    "fused QKV": Feature(
        (*UNETS, "sd3", "flux", *WITH_FUSED_QKV),
        fused_qkv,
        without=DUAL,  # fails without guidance
    ),
    "VAE tiling": Feature(
        LATENT, vae_tiling, lambda pipe, given: given | {"output_type": "pt"}, without=ADAPTER
    ),
    "channels_last": Feature(prepare=channels_last),
    "inference_mode": Feature(ALL, inference, without=VALUEWISE),
    "deepcopy": Feature(prepare=copy.deepcopy),
    "pickle": Feature(
        prepare=lambda pipe: pickle.loads(pickle.dumps(pipe)),
        without=("OmniGen", "OmniGen, reference image"),  # whose processor holds lambdas
    ),
    "another on its denoiser": Feature(ALL, beside_another),
    "FirstBlockCache": Feature((*CACHED, *WITH_FIRST_BLOCK), first_block_cache, without=CONTEXTLESS),
    "PyramidAttentionBroadcast": Feature((*CACHED, *WITH_BROADCAST), attention_broadcast),
    "ToMe": Feature(UNETS, merged_tokens),
    "DeepCache": Feature(UNETS, deep_cache, refused="DeepCache keeps features for all calls of a timestep"),
    "attention slicing": Feature(UNETS, sliced, refused="Undo attention slicing"),
    "compiled before": Feature(prepare=compiled),
}
