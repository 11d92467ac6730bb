"""Tiny LTX-2, whose seeding is the caller's affair. 5 frames are 3 of latents, of 8×8 tokens each."""

import diffusers as d
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

HEADS = {"num_attention_heads": 2, "attention_head_dim": 24, "cross_attention_dim": 48}
ROTATED = {"rope_double_precision": False, "rope_type": "split"}


def ltx2() -> d.LTX2VideoTransformer3DModel:
    """That of 2.3, whose attention a guidance of its own may perturb."""
    return d.LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        **HEADS,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=3,
        caption_channels=16,
        perturbed_attn=True,
        **ROTATED,
    )


def connectors() -> LTX2TextConnectors:
    """From the text encoder's states to what video and sound read."""
    each = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}
    each |= {"num_learnable_registers": None}
    parts = {f"{kind}_connector_{name}": each[name] for kind in ("video", "audio") for name in each}
    return LTX2TextConnectors(caption_channels=16, text_proj_in_factor=1, **parts, **ROTATED)


def ltx2_vae() -> d.AutoencoderKLLTX2Video:
    return d.AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=4,
    )


def sound_vae() -> d.AutoencoderKLLTX2Audio:
    return d.AutoencoderKLLTX2Audio(
        base_channels=4,
        output_channels=2,
        ch_mult=(1,),
        num_res_blocks=1,
        in_channels=2,
        resolution=32,
        latent_channels=2,
        mid_block_add_attention=False,
        mel_bins=8,
    )
