"""Tiny Helios, whose seeding is the caller's affair: 5 frames are 3 of latents, of 8×8 tokens each."""

import warnings

import diffusers as d


def helios() -> d.HeliosTransformer3DModel:
    """It attends to what it drew before more than to anything else, as an option of it is."""
    return d.HeliosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        rope_dim=(8, 8, 8),
        is_amplify_history=True,
    )


def one_stage(**options: object) -> d.HeliosScheduler:
    """Without a pyramid. It gives NumPy tensors where numbers are meant, of which NumPy warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        settings = {"stages": 1, "stage_range": [0, 1], "use_dynamic_shifting": True}
        return d.HeliosScheduler(**settings | options)
