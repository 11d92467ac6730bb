"""Tiny transformers of families that are like no other, and the pipelines over them.

Seeding is the caller's affair. A side of 32 pixels is one of 16 latents, unless a pipeline counts in
sixteenths.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers as d
from diffusers import modular_pipelines
from transformers import (
    GlmConfig,
    GlmModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from tests import tiny_dits as dits
from tests import tiny_networks as tiny
from tests.tiny_twins import AXES, HEADS, MAX_TOKENS, STACKS, flow

COG = {"num_layers": 3, "time_embed_dim": 16, "condition_dim": 8} | HEADS


def bria_pipeline() -> d.BriaPipeline:
    vae = tiny.vae()
    vae.register_to_config(shift_factor=0.0)
    transformer = d.BriaTransformer2DModel(**STACKS, **AXES, joint_attention_dim=32)
    return d.BriaPipeline(transformer, flow(), vae, tiny.t5(), dits.text_tokenizer())


def wan_vae() -> d.AutoencoderKLWan:
    """Sixteen pixels a latent: three halvings, and squares of 2×2 pixels before them."""
    return d.AutoencoderKLWan(
        base_dim=4,
        z_dim=8,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, False, False],
        latents_mean=[0.0] * 8,
        latents_std=[1.0] * 8,
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_spatial=16,
    )


def smol() -> SmolLM3ForCausalLM:
    """Its pipeline has a token of the real vocabulary for an empty prompt."""
    own = {"num_hidden_layers": 2, "vocab_size": 128_001}
    return SmolLM3ForCausalLM(SmolLM3Config(**dits.LANGUAGE | own))


def fibo_parts() -> dict[str, Any]:
    return {
        "transformer": d.BriaFiboTransformer2DModel(
            **STACKS | {"in_channels": 8}, **AXES, joint_attention_dim=32, text_encoder_dim=16
        ),
        "scheduler": flow(),
        "vae": wan_vae(),
        "text_encoder": smol(),
        "tokenizer": dits.text_tokenizer(),
    }


def fibo2() -> d.BriaFibo2Transformer2DModel:
    """Prompts of up to 6 tokens get 2 learned ones, those of 18 get 6."""
    return d.BriaFibo2Transformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=3,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=32,
        injection_layer_ids=(1,),
        perceiver_num_layers=1,
        min_num_gist_tokens=2,
        max_num_gist_tokens=6,
        gist_step=2,
        gist_min_text_len=6,
        gist_max_text_len=18,
        axes_dims=(4, 6, 6),
        axes_lens=(80, 32, 32),
    )


class Processor:
    """Reads the text alone, in the place of one that makes tokens of pictures too."""

    def __init__(self) -> None:
        self.tokenizer = dits.text_tokenizer()

    def __call__(self, text: list[str], images: Any = None, **options: Any) -> Any:
        return self.tokenizer(text, **options)


def fibo2_pipeline() -> d.BriaFibo2Pipeline:
    encoder = Qwen3VLForConditionalGeneration(qwen3_vl_config())
    pipe = d.BriaFibo2Pipeline(fibo2(), flow(), dits.flux2_vae(), encoder, Processor())
    pipe.prompt_template_encode, pipe.text_encoder_out_layers = "{}", ((0, 1), (1, 2))
    pipe.tokenizer_max_length = MAX_TOKENS
    pipe.default_sample_size = 16
    return pipe


def glm() -> GlmModel:
    return GlmModel(GlmConfig(**dits.LANGUAGE, head_dim=8))


def cogview4_parts(channels: int = 4) -> dict[str, Any]:
    return {
        "tokenizer": dits.text_tokenizer(),
        "text_encoder": glm(),
        "vae": tiny.vae(),
        "transformer": d.CogView4Transformer2DModel(
            **COG, in_channels=channels, out_channels=4, text_embed_dim=16, sample_size=16
        ),
        "scheduler": flow(),
    }


def cogview3_pipeline(scheduler: Any) -> d.CogView3PlusPipeline:
    transformer = d.CogView3PlusTransformer2DModel(
        **COG, in_channels=4, out_channels=4, text_embed_dim=32, sample_size=16, pos_embed_max_size=16
    )
    return d.CogView3PlusPipeline(dits.text_tokenizer(), tiny.t5(), tiny.vae(), transformer, scheduler)


def prx(channels: int = 4) -> d.PRXTransformer2DModel:
    return d.PRXTransformer2DModel(
        in_channels=channels, context_in_dim=32, hidden_size=32, num_heads=2, depth=3, axes_dim=[8, 8]
    )


def prx_pipeline() -> d.PRXPipeline:
    vae = tiny.vae()
    vae.register_to_config(shift_factor=0.1)
    scheduler = d.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return as_they_are(d.PRXPipeline(prx(), scheduler, tiny.t5(), dits.text_tokenizer(), vae))


def prx_pixel_pipeline() -> d.PRXPixelPipeline:
    scheduler = d.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return as_they_are(d.PRXPixelPipeline(prx(3), scheduler, tiny.t5(), dits.text_tokenizer()))


def as_they_are(pipe: Any) -> Any:
    """Prompts are not cleaned, which would take another package."""
    pipe._tokenize_prompts = partial(uncleaned, pipe.tokenizer)
    return pipe


def uncleaned(tokenizer: Any, prompts: list[str], device: Any, **_: Any) -> tuple[Any, Any]:
    tokens = tokenizer(prompts, padding="max_length", max_length=24, return_tensors="pt")
    return tokens["input_ids"].to(device), tokens["attention_mask"].bool().to(device)


def deep_qwen_vl() -> Qwen2_5_VLForConditionalGeneration:
    """Two layers, as the hidden states of one before the last are asked for."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    text = dits.LANGUAGE | {"rope_parameters": rope, "num_hidden_layers": 3}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def hunyuan_image(channels: int = 4, **options: Any) -> d.HunyuanImageTransformer2DModel:
    given = {"patch_size": (2, 2), "rope_axes_dim": (8, 8), "text_embed_2_dim": 32} | options
    return d.HunyuanImageTransformer2DModel(
        in_channels=channels,
        out_channels=4,
        **HEADS,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        **given,
    )


def hunyuan_image_pipeline(guider: Any = None, **options: Any) -> d.HunyuanImagePipeline:
    vae = d.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        spatial_compression_ratio=2,
        sample_size=32,
        scaling_factor=0.5,
    )
    pipe = d.HunyuanImagePipeline(
        d.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae,
        deep_qwen_vl(),
        tiny.tokenizer(MAX_TOKENS),
        tiny.t5(),
        dits.text_tokenizer(),
        hunyuan_image(**options),
        guider,
    )
    return short_template(pipe)


def mean_flow_pipeline() -> d.HunyuanImagePipeline:
    """Distilled, whose network knows two noise levels; diffusers' own registry is on it, as after a run."""
    pipe = hunyuan_image_pipeline(use_meanflow=True)
    with pipe.transformer.cache_context("any"):
        return pipe


def short_template(pipe: Any) -> Any:
    """A prompt is framed with a page of instructions, one token per letter here."""
    pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = "{}", 0
    pipe.tokenizer_max_length = pipe.tokenizer_2_max_length = 24
    return pipe


def hunyuan_refiner_pipeline(guider: Any = None) -> d.HunyuanImageRefinerPipeline:
    vae = d.AutoencoderKLHunyuanImageRefiner(
        latent_channels=2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        spatial_compression_ratio=2,
        temporal_compression_ratio=1,
    )
    transformer = hunyuan_image(
        8, patch_size=(1, 2, 2), rope_axes_dim=(4, 6, 6), text_embed_2_dim=None, guidance_embeds=True
    )
    pipe = d.HunyuanImageRefinerPipeline(
        d.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae,
        deep_qwen_vl(),
        tiny.tokenizer(MAX_TOKENS),
        transformer,
        guider,
    )
    return short_template(pipe)


def qwen3_vl_config() -> Qwen3VLConfig:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    text = dits.LANGUAGE | {"rope_parameters": rope, "num_hidden_layers": 2, "head_dim": 8}
    return Qwen3VLConfig(text_config=text, vision_config=vision)


def krea2() -> d.Krea2Transformer2DModel:
    return d.Krea2Transformer2DModel(
        **HEADS,
        in_channels=16,
        num_layers=3,
        num_key_value_heads=1,
        intermediate_size=32,
        timestep_embed_dim=16,
        text_hidden_dim=16,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )


def krea2_turbo() -> d.Krea2TurboModularPipeline:
    """Without the block that reads prompts, whose template is a page, and whose encoder has 36 layers."""
    blocks = modular_pipelines.Krea2TurboAutoBlocks()
    blocks.sub_blocks.pop("text_encoder")
    pipe, parts = d.Krea2TurboModularPipeline(blocks), krea2_pipeline().components
    names = pipe._component_specs
    pipe.update_components(**{name: part for name, part in parts.items() if name in names})
    return pipe


def krea2_pipeline() -> d.Krea2Pipeline:
    pipe = d.Krea2Pipeline(
        flow(), dits.qwen_vae(), Qwen3VLModel(qwen3_vl_config()), tiny.tokenizer(MAX_TOKENS), krea2(), (0, 1)
    )
    pipe.prompt_template_encode_prefix, pipe.prompt_template_encode_suffix = "", ">"
    pipe.prompt_template_encode_start_idx, pipe.prompt_template_encode_num_suffix_tokens = 0, 3
    return pipe
