"""Tiny transformers of later families, with the text encoders and VAEs that only they have.

Seeding is the caller's affair. Every VAE halves each side unless its pipeline counts in eighths.
"""

import diffusers as d
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2Model,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.tiny_networks import VOCABULARY, tokenizer

LANGUAGE = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "bos_token_id": VOCABULARY["<s>"],
    "eos_token_id": VOCABULARY["</s>"],
    "pad_token_id": VOCABULARY["<pad>"],
}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}


def qwen_image() -> d.QwenImageTransformer2DModel:
    return d.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )


def qwen_vae() -> d.AutoencoderKLQwenImage:
    return d.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def qwen_vl() -> Qwen2_5_VLForConditionalGeneration:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = Qwen2_5_VLConfig(text_config=LANGUAGE | {"rope_parameters": rope}, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config)


def flux2(joint_attention_dim: int = 16) -> d.Flux2Transformer2DModel:
    return d.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=joint_attention_dim,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
    )


def flux2_vae() -> d.AutoencoderKLFlux2:
    return d.AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )


def mistral() -> Mistral3ForConditionalGeneration:
    config = Mistral3Config(
        text_config=LANGUAGE | {"model_type": "mistral"},
        vision_config=VISION | {"model_type": "pixtral", "image_size": 28, "patch_size": 14},
    )
    return Mistral3ForConditionalGeneration(config)


def qwen3() -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(Qwen3Config(**LANGUAGE, head_dim=8))


def chat_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer, with a template that leaves of a conversation the prompt."""
    backend = tokenizer(77)
    backend.chat_template = template
    return backend


def auraflow(size: int = 16) -> d.AuraFlowTransformer2DModel:
    return d.AuraFlowTransformer2DModel(
        sample_size=size,
        num_mmdit_layers=1,
        num_single_dit_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pos_embed_max_size=256,
    )


def umt5() -> UMT5EncoderModel:
    config = {"vocab_size": len(VOCABULARY), "d_model": 32, "d_kv": 8, "d_ff": 32}
    return UMT5EncoderModel(UMT5Config(**config, num_layers=1, num_heads=4))


def text_tokenizer() -> PreTrainedTokenizerFast:
    """The tiny tokenizer without token types, which T5 does not take."""
    plain = tokenizer(77)
    plain.model_input_names = ["input_ids", "attention_mask"]
    return plain


def lumina2(size: int = 16) -> d.Lumina2Transformer2DModel:
    return d.Lumina2Transformer2DModel(
        sample_size=size,
        in_channels=4,
        hidden_size=32,
        num_layers=3,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 6, 6),
        axes_lens=(80, 32, 32),
        cap_feat_dim=16,
    )


def lumina_next(size: int = 16) -> d.LuminaNextDiT2DModel:
    model = d.LuminaNextDiT2DModel(
        sample_size=size,
        in_channels=4,
        hidden_size=32,
        num_layers=3,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        cross_attention_dim=16,
    )
    nn.init.zeros_(model.pad_token)  # never used, and never initialised
    return model


def gemma() -> Gemma2Model:
    return Gemma2Model(Gemma2Config(**LANGUAGE, head_dim=8))


def hunyuan(size: int = 16) -> d.HunyuanDiT2DModel:
    return d.HunyuanDiT2DModel(
        sample_size=size,
        num_layers=4,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        hidden_size=16,
        cross_attention_dim=16,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        text_len_t5=256,
    )


def kandinsky_unet(size: tuple[int, int] = (16, 16)) -> d.UNet2DConditionModel:
    """Kandinsky 2.2: every attention layer holds keys of the prompt, an image's embedding, beside its own."""
    return d.UNet2DConditionModel(
        sample_size=size[0],
        in_channels=4,
        out_channels=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="image",
        addition_embed_type_num_heads=2,
        encoder_hid_dim=16,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def kandinsky5(**options: object) -> d.Kandinsky5Transformer3DModel:
    return d.Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=32,
        out_visual_dim=4,
        model_dim=32,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=3,
        axes_dims=(4, 6, 6),
        **options,
    )


def movq() -> d.VQModel:
    return d.VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )


def bert() -> BertModel:
    return BertModel(
        BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        )
    )


def vae_of_eighths() -> d.AutoencoderKL:
    """A side of 128 pixels is one of 16 latents, as in pipelines that do not ask their VAE."""
    return d.AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=128,
    )
