"""How a pipeline and its call are changed for each feature of the support matrix."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import accelerate
import tomesd
import torch
from DeepCache import DeepCacheSDHelper
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from torch import Tensor, nn

from sag import SelfAttentionGuidance
from tests.matrix.rows import Arguments
from tokenrank_guidance.components import DENOISERS, STAGES
from tokenrank_guidance.components import denoiser_of as denoiser

LORA_SCALE = 0.5


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
