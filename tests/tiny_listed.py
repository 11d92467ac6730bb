"""Tiny Z-Image, HiDream and Kandinsky 3: networks, whose seeding is the caller's affair, and pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as d
import torch
from torch import nn
from transformers import (
    CLIPTextModelWithProjection,
    LlamaConfig,
    LlamaForCausalLM,
    Siglip2ImageProcessor,
    Siglip2VisionConfig,
    Siglip2VisionModel,
)

from tests import tiny_dits as dits
from tests import tiny_networks as tiny
from tests.tiny_models import ddim, denoiser, sharpen

BLOCKS = {"all_patch_size": (2,), "dim": 32, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}
XS = {"size_ratio": 0.5, "learn_time_embedding": True, "conditioning_embedding_out_channels": (4, 8)}
SIGLIP = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}


def made(build: Callable[[], Any]) -> Any:
    """A pipeline from a fixed seed, whose denoiser's attention maps are far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = build()
    sharpen(denoiser(pipe))
    for module in pipe.components.values():
        if isinstance(module, nn.Module):
            module.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stirred(network: nn.Module) -> Any:
    """Parameters that start at zero would hide whether what they lead to arrives."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return network


def z_image(siglip: int | None = None, channels: int = 4) -> d.ZImageTransformer2DModel:
    """It takes 16 channels for granted where a picture is missing."""
    network = d.ZImageTransformer2DModel(
        in_channels=channels,
        n_layers=3,
        cap_feat_dim=16,
        siglip_feat_dim=siglip,
        axes_dims=[4, 6, 6],
        axes_lens=[256, 64, 64],
        **BLOCKS,
    )
    return stirred(network)


def z_controlnet(channels: int = 4) -> d.ZImageControlNetModel:
    net = d.ZImageControlNetModel([0, 2], [0], channels, "control_noise_refiner", **BLOCKS)
    return stirred(net)


def _vae() -> d.AutoencoderKL:
    vae = tiny.vae()
    vae.register_to_config(shift_factor=0.1)
    return vae


def _z_parts(siglip: int | None = None) -> dict[str, Any]:
    return {
        "scheduler": d.FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": _vae(),
        "text_encoder": dits.qwen3(),
        "tokenizer": dits.chat_tokenizer("{{ messages[0].content }}"),
        "transformer": z_image(siglip),
    }


def z_pipeline(cls: type = d.ZImagePipeline, controls: int = 0) -> Any:
    """`controls`: the channels that its ControlNet is given, 0 without one."""

    def build() -> Any:
        return cls(**_z_parts(), **({"controlnet": z_controlnet(controls)} if controls else {}))

    return made(build)


def z_omni() -> Any:
    """Its VAE encodes pictures in bfloat16, whatever its weights are: they must be too."""

    def build() -> Any:
        config = Siglip2VisionConfig(**SIGLIP, patch_size=8, num_patches=16)
        processor = Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        return d.ZImageOmniPipeline(
            **_z_parts(siglip=16), siglip=Siglip2VisionModel(config), siglip_processor=processor
        )

    pipe = made(build)
    pipe.vae.to(torch.bfloat16)
    return pipe


def hidream() -> d.HiDreamImageTransformer2DModel:
    """Images that are no squares are padded to 64 tokens."""
    return d.HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=[32, 16],
        text_emb_dim=32,
        num_routed_experts=2,
        num_activated_experts=1,
        axes_dims_rope=(4, 6, 6),
        max_resolution=(16, 16),
        llama_layers=[0, 1, 0, 1],
    )


def _long_clip() -> CLIPTextModelWithProjection:
    config = tiny.clip_config()
    config.max_position_embeddings = 128
    return CLIPTextModelWithProjection(config)


def hidream_pipeline() -> Any:
    def build() -> Any:
        llama = LlamaForCausalLM(LlamaConfig(**dits.LANGUAGE | {"num_hidden_layers": 2}))
        llama.set_attn_implementation("eager")  # it is asked for its maps
        pipe = d.HiDreamImagePipeline(
            d.FlowMatchEulerDiscreteScheduler(shift=3.0),
            _vae(),
            _long_clip(),
            tiny.tokenizer(77),
            _long_clip(),
            tiny.tokenizer(77),
            tiny.t5(),
            dits.text_tokenizer(),
            llama,
            tiny.tokenizer(77),
            hidream(),
        )
        pipe.default_sample_size = 16
        return pipe

    return made(build)


def kandinsky3_unet() -> d.Kandinsky3UNet:
    return d.Kandinsky3UNet(
        time_embedding_dim=32,
        groups=4,
        attention_head_dim=8,
        layers_per_block=2,
        block_out_channels=(16, 16, 32, 32),
        cross_attention_dim=16,
        encoder_hid_dim=32,
    )


def kandinsky3_pipeline(cls: type = d.Kandinsky3Pipeline) -> Any:
    def build() -> Any:
        scheduler = d.DDPMScheduler(beta_end=0.012, clip_sample=False)
        return cls(dits.text_tokenizer(), tiny.t5(), kandinsky3_unet(), scheduler, dits.movq())

    return made(build)


def ernie() -> d.ErnieImageTransformer2DModel:
    network = d.ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=3,
        ffn_hidden_size=32,
        in_channels=16,
        out_channels=16,
        text_in_dim=16,
        rope_axes_dim=(4, 6, 6),
    )
    return stirred(network)


def ernie_pipeline() -> Any:
    def build() -> Any:
        scheduler = d.FlowMatchEulerDiscreteScheduler(shift=3.0)
        return d.ErnieImagePipeline(
            ernie(), dits.flux2_vae(), dits.qwen3(), tiny.tokenizer(77), scheduler, None, None
        )

    return made(build)


def nucleus() -> d.NucleusMoEImageTransformer2DModel:
    """Two heads for each of their keys; all blocks but the first send tokens to two experts."""
    network = d.NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
        mlp_ratio=4.0,
        dense_moe_strategy="leave_first_block_dense",
        num_experts=2,
        moe_intermediate_dim=16,
        capacity_factors=1.0,
    )
    for name, parameter in network.named_parameters():
        if ".experts." in name:  # which are never initialised
            nn.init.normal_(parameter, std=0.1)
    return network


def _chat(template: str) -> Any:
    tokenizer = dits.chat_tokenizer(template)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def nucleus_pipeline() -> Any:
    def build() -> Any:
        pipe = d.NucleusMoEImagePipeline(
            nucleus(),
            d.FlowMatchEulerDiscreteScheduler(shift=3.0),
            dits.qwen_vae(),
            dits.qwen3(),
            _chat("{{ messages[1].content[0].text }}"),
        )
        pipe.default_return_index, pipe.default_max_sequence_length = -1, 64
        return pipe

    return made(build)


def qwen21() -> d.QwenImage21Transformer2DModel:
    return d.QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=16,
        axes_dims_rope=(4, 6, 6),
    )


class Processor:
    """A tokenizer that is asked as a processor of pictures and texts is."""

    def __init__(self) -> None:
        self.text = _chat("{{ messages[0].content }}")

    @property
    def tokenizer(self) -> Any:
        return self

    def encode(self, text: str) -> list[int]:
        """What stands for a picture is in no text."""
        return [-1]

    def apply_chat_template(self, messages: Any, **options: Any) -> list[list[int]]:
        return [[]]

    def __call__(self, text: str | list[str], **options: Any) -> Any:
        """What the user says, without the frame of instructions around it."""
        texts = [text] if isinstance(text, str) else text
        said = [one.rpartition("user\n")[2].partition("<|im_end|>")[0] for one in texts]
        return self.text(said, **options)


def qwen21_vae() -> d.AutoencoderKLQwenImage21:
    """Of pictures with an alpha channel."""
    return d.AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1] * 4,
        latents_std=[2.0] * 4,
    )


def qwen21_pipeline() -> Any:
    def build() -> Any:
        scheduler = d.FlowMatchEulerDiscreteScheduler(shift=3.0)
        return d.QwenImage21Pipeline(scheduler, qwen21_vae(), dits.qwen3(), Processor(), qwen21())

    return made(build)


def flux3(flow_map: bool = False) -> d.Flux3Transformer2DModel:
    return d.Flux3Transformer2DModel(
        in_channels=16,
        cond_in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        timestep_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        flow_map=flow_map,
    )


class Chat(Processor):
    """One whose template leaves of a conversation the prompt."""

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        return messages[0]["content"]


def omnigen() -> d.OmniGenTransformer2DModel:
    return d.OmniGenTransformer2DModel(
        in_channels=4,
        hidden_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        num_layers=3,
        pad_token_id=0,
        vocab_size=len(tiny.VOCABULARY),
        rope_scaling={"short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
        pos_embed_max_size=16,
        time_step_dim=32,
    )


def omnigen_pipeline() -> Any:
    """Its released scheduler counts from noise at 0 to the image at 1."""

    def build() -> Any:
        scheduler = d.FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1)
        return d.OmniGenPipeline(omnigen(), scheduler, dits.vae_of_eighths(), tiny.tokenizer(1024))

    return made(build)


def glm() -> d.GlmImageTransformer2DModel:
    return d.GlmImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=32,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=32,
    )


def glm_pipeline() -> Any:
    """Without the language model, whose tokens its call can be given."""

    def build() -> Any:
        scheduler = d.FlowMatchEulerDiscreteScheduler(shift=3.0)
        return d.GlmImagePipeline(tiny.tokenizer(77), None, tiny.t5(), None, _vae(), glm(), scheduler)

    return made(build)


def xs_pipeline(xl: bool = False) -> Any:
    """Its outer convolutions start at zero, which would hide whether the control arrives."""

    def build() -> Any:
        config = dict((tiny.unet_xl() if xl else tiny.unet()).config)
        config.pop("_use_default_values")  # would bring back the usual number of channels
        unet = d.UNet2DConditionModel.from_config(config | {"layers_per_block": 2, "sample_size": 16})
        adapter = d.ControlNetXSAdapter.from_unet(unet, **XS)
        parts = {"vae": tiny.vae(), "text_encoder": tiny.clip(), "tokenizer": tiny.tokenizer(77)}
        parts |= {"unet": unet, "controlnet": adapter, "scheduler": ddim()}
        if xl:
            more = {"text_encoder_2": tiny.clip_projected(), "tokenizer_2": tiny.tokenizer(77)}
            return d.StableDiffusionXLControlNetXSPipeline(**parts, **more, add_watermarker=False)
        options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return d.StableDiffusionControlNetXSPipeline(**parts, **options)

    pipe = made(build)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        stirred(pipe.unet)
    return pipe
