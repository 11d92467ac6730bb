"""The columns of the support matrix: what a user combines guidance with.

A feature changes a built pipeline or the arguments of its call, or both. `families` lists the families that
it exists for: elsewhere its cell reads "not applicable".
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import accelerate
import tomesd
import torch
from DeepCache import DeepCacheSDHelper
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from torch import Tensor, nn

from sag import SelfAttentionGuidance
from tests.matrix import sana
from tests.matrix.beside import WITHOUT_CFG
from tests.matrix.embeddings import ENCODERS, prompt_embeddings
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
from tokenrank_guidance.components import DENOISERS, STAGES
from tokenrank_guidance.components import denoiser_of as denoiser

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
LORA_SCALE = 0.5
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


def attention_kwargs(pipe: Any) -> str:
    """What the call's arguments for attention are named."""
    names = inspect.signature(type(pipe).__call__).parameters
    return next(name for name in names if name.endswith("attention_kwargs"))


def add_lora(pipe: Any) -> Any:
    from peft import LoraConfig

    torch.manual_seed(2)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    denoiser(pipe).add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    return pipe


def scaled_lora(pipe: Any, given: Arguments) -> Arguments:
    return given | {attention_kwargs(pipe): {"scale": LORA_SCALE}}


def add_textual_inversion(pipe: Any) -> Any:
    """A word of two learned vectors, for every text encoder that there is."""
    generator = torch.Generator().manual_seed(6)
    for name in ("", "_2"):
        encoder, tokenizer = (getattr(pipe, f"{part}{name}", None) for part in ("text_encoder", "tokenizer"))
        if encoder is not None:
            vectors = torch.randn(2, encoder.config.hidden_size, generator=generator)
            pipe.load_textual_inversion(vectors, token="<thing>", text_encoder=encoder, tokenizer=tokenizer)
    return pipe


def with_learned_word(pipe: Any, given: Arguments) -> Arguments:
    return given | {"prompt": [f"{prompt} <thing>" for prompt in given["prompt"]]}


def fuse_lora(pipe: Any) -> Any:
    add_lora(pipe)
    denoiser(pipe).fuse_lora(lora_scale=LORA_SCALE)
    return pipe


def add_ip_adapter(pipe: Any) -> Any:
    """Image tokens for every cross-attention, from 8 numbers that stand for a picture."""
    unet: Any = pipe.unet
    generator = torch.Generator().manual_seed(3)
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    width = unet.config.cross_attention_dim
    weights = {}
    for i, name in enumerate(names):
        channels = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for key in ("to_k_ip", "to_v_ip"):
            weights[f"{2 * i + 1}.{key}.weight"] = torch.randn(channels, width, generator=generator)
    projection = {
        "proj.weight": torch.randn(4 * width, 8, generator=generator),
        "proj.bias": torch.zeros(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    unet._load_ip_adapter_weights(
        [{"image_proj": projection, "ip_adapter": weights}], low_cpu_mem_usage=False
    )
    return pipe


def image_embeddings(pipe: Any, given: Arguments) -> Arguments:
    pictures = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(4))
    return given | {"ip_adapter_image_embeds": [pictures]}


def cast(dtype: torch.dtype) -> Callable[[Any], Any]:
    def prepare(pipe: Any) -> Any:
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.to(dtype)
        if dtype.itemsize < 4:
            keep_in_float32(denoiser(pipe))
        return pipe

    return prepare


def embeddings_in(dtype: torch.dtype) -> Callable[[Any, Arguments], Arguments]:
    """Some pipelines take embeddings as they come."""

    def arguments(pipe: Any, given: Arguments) -> Arguments:
        kinds = ("prompt_embeds", "image_embeddings")
        texts = {name: value for name, value in given.items() if any(kind in name for kind in kinds)}
        tensors = {name: value for name, value in texts.items() if isinstance(value, Tensor)}
        floating = {name: value for name, value in tensors.items() if torch.is_floating_point(value)}
        return given | {name: value.to(dtype) for name, value in floating.items()}

    return arguments


def keep_in_float32(model: Any) -> None:
    """What `from_pretrained` does, and `to` does not, for parts that a class names."""
    kept = set(model._keep_in_fp32_modules or ())
    for name, module in model.named_modules():
        if kept.intersection(name.split(".")):
            module.float()


def model_offload(pipe: Any) -> Any:
    pipe.enable_model_cpu_offload(device="cpu")
    return pipe


def sequential_offload(pipe: Any) -> Any:
    """Weights lie on the meta device and come back for each submodule: accelerate's own mechanism."""
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            accelerate.cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)
    return pipe


def group_offload(pipe: Any) -> Any:
    denoiser(pipe).enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )
    return pipe


def layerwise_casting(pipe: Any) -> Any:
    denoiser(pipe).enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    return pipe


def freeu(pipe: Any) -> Any:
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    return pipe


def fused_qkv(pipe: Any) -> Any:
    denoiser(pipe).fuse_qkv_projections()
    return pipe


def vae_tiling(pipe: Any) -> Any:
    """Tiles of half a side, decoded too: these pictures are smaller than one tile of the default size."""
    pipe.vae.register_to_config(shift_factor=0.1)  # SD3 and FLUX decode with it
    pipe.vae.enable_tiling()
    pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = 8, 16
    return pipe


def channels_last(pipe: Any) -> Any:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in denoiser(pipe).parameters():
        if weight.ndim in formats:
            weight.data = weight.data.contiguous(memory_format=formats[weight.ndim])
    return pipe


def sliced(pipe: Any) -> Any:
    pipe.enable_attention_slicing()
    return pipe


def pass_on(pipe: Any, step: int, timestep: Any, kwargs: Arguments) -> Arguments:
    return {"latents": kwargs["latents"] * 0.99}


def stop_after_two(pipe: Any, step: int, timestep: Any, kwargs: Arguments) -> Arguments:
    pipe._interrupt = step == 1
    return kwargs


def inference(pipe: Any) -> Any:
    """The pipeline whose every call runs in `torch.inference_mode`."""
    return InInferenceMode(pipe)


class InInferenceMode:
    """A pipeline called in inference mode; all else is the pipeline's."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)

    def __call__(self, **arguments: Any) -> Any:
        with torch.inference_mode():
            return self.pipe(**arguments)


def compiled(pipe: Any) -> Any:
    torch._dynamo.reset()
    name = next(name for name in (*DENOISERS, *STAGES) if hasattr(pipe, name))
    setattr(pipe, name, torch.compile(getattr(pipe, name), backend="eager"))
    return pipe


def beside_another(pipe: Any) -> Any:
    """Another pipeline over the same denoiser, guided in another way, which never runs."""
    SelfAttentionGuidance("sag", 0.3).enable(copy.copy(pipe))
    return pipe


def first_block_cache(pipe: Any) -> Any:
    denoiser(pipe).enable_cache(FirstBlockCacheConfig(threshold=-1.0))
    return pipe


def attention_broadcast(pipe: Any) -> Any:
    """At no timestep: a pass that a cache serves shifts nothing that could be told from another's."""
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 0),
        current_timestep_callback=lambda: 500,
    )
    denoiser(pipe).enable_cache(config)
    return pipe


def merged_tokens(pipe: Any) -> Any:
    tomesd.apply_patch(pipe, ratio=0.5, use_rand=False)
    return pipe


def deep_cache(pipe: Any) -> Any:
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    return pipe


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
