"""Tiny, randomly initialised networks of the real diffusers and transformers classes, without network access.

Seeding is the caller's affair. `size` is in latents (`unet_unconditional`: pixels).
"""

import diffusers as d
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
VOCABULARY = {token: i for i, token in enumerate([*SPECIAL, *map(chr, range(32, 127))])}


def tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """One token per printable ASCII character, framed by <s> and </s>."""
    backend = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def clip_config(projection: int = 16) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=projection,
        max_position_embeddings=77,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=VOCABULARY["</s>"],
    )


def clip() -> CLIPTextModel:
    return CLIPTextModel(clip_config())


def clip_projected() -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(clip_config())


def t5() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=len(VOCABULARY), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    )


def vae(channels: int = 4) -> d.AutoencoderKL:
    return d.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
    )


def unet(text_dim: int = 16, size: tuple[int, int] = (16, 16)) -> d.UNet2DConditionModel:
    return d.UNet2DConditionModel(
        sample_size=size,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=text_dim,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def unet_xl(size: tuple[int, int] = (16, 16)) -> d.UNet2DConditionModel:
    return d.UNet2DConditionModel(
        sample_size=size,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )


def unet_unconditional(size: tuple[int, int] = (32, 32)) -> d.UNet2DModel:
    return d.UNet2DModel(
        sample_size=size,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=8,
    )


def dit(size: int = 16) -> d.DiTTransformer2DModel:
    return d.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=size,
    )


def pixart(size: int = 16) -> d.PixArtTransformer2DModel:
    return d.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        cross_attention_dim=16,
        caption_channels=32,
        sample_size=size,
        use_additional_conditions=False,
    )


def sd3(size: int = 16, dual_attention_layers: tuple[int, ...] = (0,)) -> d.SD3Transformer2DModel:
    return d.SD3Transformer2DModel(
        sample_size=size,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=32,
        dual_attention_layers=dual_attention_layers,
        qk_norm="rms_norm",
    )


def flux() -> d.FluxTransformer2DModel:
    return d.FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
