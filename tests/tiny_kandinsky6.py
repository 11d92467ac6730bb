"""Tiny Kandinsky 6, whose seeding is the caller's affair: 9 frames are 3 of latents, of 8×8 tokens each."""

import diffusers as d


def kandinsky6(**options: object) -> d.Kandinsky6Transformer3DModel:
    """As published: its video and its sound meet in every block, turned by their places."""
    return d.Kandinsky6Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=32,
        model_dim=32,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=3,
        axes_dims=(4, 6, 6),
        in_audio_dim=4,
        out_audio_dim=4,
        ca_rope=True,
        cross_gates=True,
        fix_modulation=True,
        visual_token_type_num_embeddings=2,
        **options,
    )


def sound_vae() -> d.MMAudioVAE:
    return d.MMAudioVAE(
        mel_bins=8, latent_channels=4, hidden_channels=8, channel_multipliers=(1, 1), layers_per_block=1
    )


def vocoder() -> d.MMAudioVocoder:
    return d.MMAudioVocoder(
        num_mels=8,
        upsample_initial_channel=8,
        upsample_rates=(2,),
        upsample_kernel_sizes=(4,),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
    )
