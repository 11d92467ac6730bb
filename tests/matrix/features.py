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

import accelerate
import torch
from torch import nn

from sag.guidance import denoiser_of as denoiser
from tests.matrix.rows import Arguments, Row
from tests.tiny_models import Call

UNETS = ("sd", "sdxl")
TEXT = (*UNETS, "sd3", "flux", "pixart")
LATENT = (*TEXT, "dit")
EVERY = (*LATENT, "ddpm")
LORA_SCALE = 0.5
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
    return "cross_attention_kwargs" if hasattr(pipe, "unet") else "joint_attention_kwargs"


def add_lora(pipe: Any) -> Any:
    from peft import LoraConfig

    torch.manual_seed(2)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    denoiser(pipe).add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    return pipe


def scaled_lora(pipe: Any, given: Arguments) -> Arguments:
    return given | {attention_kwargs(pipe): {"scale": LORA_SCALE}}


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


def prompt_embeddings(pipe: Any, given: Arguments) -> Arguments:
    """What `encode_prompt` returns, under the names that the call takes, in place of the prompts."""
    words = {"prompt": given["prompt"], "negative_prompt": given["negative_prompt"]}
    return {**given, **ENCODERS[_kind(pipe)](pipe, words), "prompt": None, "negative_prompt": None}


def _kind(pipe: Any) -> str:
    return type(denoiser(pipe)).__name__ + ("XL" if hasattr(pipe, "text_encoder_2") else "")


def _sd_embeddings(pipe: Any, words: Arguments) -> Arguments:
    positive, negative = pipe.encode_prompt(
        words["prompt"], "cpu", 1, True, negative_prompt=words["negative_prompt"]
    )
    return {"prompt_embeds": positive, "negative_prompt_embeds": negative}


def _pooled_embeddings(pipe: Any, words: Arguments) -> Arguments:
    third = {"prompt_3": None} if hasattr(pipe, "text_encoder_3") else {}
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    options = {"max_sequence_length": 16} if third else {}
    given = pipe.encode_prompt(
        prompt=words["prompt"],
        prompt_2=None,
        negative_prompt=words["negative_prompt"],
        do_classifier_free_guidance=True,
        **third,
        **options,
    )
    return dict(zip(names, given, strict=True))


ENCODERS = {
    "UNet2DConditionModel": _sd_embeddings,
    "UNet2DConditionModelXL": _pooled_embeddings,
    "SD3Transformer2DModelXL": _pooled_embeddings,
}


def cast(dtype: torch.dtype) -> Callable[[Any], Any]:
    def prepare(pipe: Any) -> Any:
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.to(dtype)
        return pipe

    return prepare


def model_offload(pipe: Any) -> Any:
    pipe.enable_model_cpu_offload(device="cpu")
    return pipe


def sequential_offload(pipe: Any) -> Any:
    """Weights lie on the meta device and come back for each submodule: accelerate's own mechanism."""
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            accelerate.cpu_offload(part, torch.device("cpu"), offload_buffers=True)
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
    denoiser(pipe).to(memory_format=torch.channels_last)
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
    name = "unet" if hasattr(pipe, "unet") else "transformer"
    setattr(pipe, name, torch.compile(getattr(pipe, name), backend="eager"))
    return pipe


FEATURES: dict[str, Feature] = {
    "plain": Feature(call=lambda call: replace(call, cfg=False)),
    "CFG, negative prompt": Feature(LATENT),
    "two prompts, two images each": Feature(call=lambda call: replace(call, batch=2, images_per_prompt=2)),
    "prompt embeddings": Feature((*UNETS, "sd3"), arguments=prompt_embeddings),
    "bf16": Feature(prepare=cast(torch.bfloat16)),
    "fp16": Feature(prepare=cast(torch.float16)),
    "LoRA, scale 0.5": Feature((*UNETS, "sd3", "flux"), add_lora, scaled_lora),
    "LoRA, fused": Feature((*UNETS, "sd3", "flux"), fuse_lora),
    "IP-Adapter": Feature(UNETS, add_ip_adapter, image_embeddings, without=ADAPTER),
    "model offload": Feature(prepare=model_offload),
    "sequential offload": Feature(prepare=sequential_offload),
    "group offload": Feature((*TEXT, "ddpm"), group_offload),
    "layerwise casting": Feature(prepare=layerwise_casting),
    "guidance_rescale": Feature(
        UNETS, arguments=lambda pipe, given: given | {"guidance_rescale": 0.7}, without=ADAPTER
    ),
    "callback_on_step_end": Feature(
        (*UNETS, "sd3", "flux"),
        arguments=lambda pipe, given: given | {"callback_on_step_end": pass_on},
        without=ADAPTER,
    ),
    "interrupt": Feature(
        (*UNETS, "sd3", "flux"),
        arguments=lambda pipe, given: given | {"callback_on_step_end": stop_after_two},
        without=ADAPTER,
    ),
    "FreeU": Feature(UNETS, freeu),
    "fused QKV": Feature(
        (*UNETS, "sd3", "flux"),
        fused_qkv,
        without=("StableDiffusion3", "StableDiffusion3Img2Img"),  # fails without guidance: dual attention
    ),
    "VAE tiling": Feature(
        LATENT, vae_tiling, lambda pipe, given: given | {"output_type": "pt"}, without=ADAPTER
    ),
    "channels_last": Feature(prepare=channels_last),
    "inference_mode": Feature(prepare=inference),
    "deepcopy": Feature(prepare=copy.deepcopy),
    "pickle": Feature(prepare=lambda pipe: pickle.loads(pickle.dumps(pipe))),
    "attention slicing": Feature(UNETS, sliced, refused="Undo attention slicing"),
    "compiled before": Feature(prepare=compiled, refused="Compiled graphs cannot be seen into"),
}
