"""Tiny Sana pipelines of the real classes: linear attention over the 8x8 tokens of a 32x32 picture."""

from typing import Any

import diffusers as d

from tests import tiny_dits as dits
from tests.tiny_models import NEGATIVE, PROMPT, Call


def transformer(**changes: Any) -> d.SanaTransformer2DModel:
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 3,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 8,
        "cross_attention_dim": 16,
        "caption_channels": 16,
        "sample_size": 8,
    }
    return d.SanaTransformer2DModel(**(config | changes))


def vae() -> d.AutoencoderDC:
    """A side of 32 pixels is one of 8 latents."""
    return d.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_out_channels=(4, 4, 8),
        decoder_block_out_channels=(4, 4, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        scaling_factor=0.5,
    )


def flow_scheduler() -> d.DPMSolverMultistepScheduler:
    return d.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )


def parts(network: Any, scheduler: Any) -> dict[str, Any]:
    return {
        "tokenizer": dits.text_tokenizer(),
        "text_encoder": dits.gemma(),
        "vae": vae(),
        "transformer": network,
        "scheduler": scheduler,
    }


def arguments(call: Call) -> dict[str, object]:
    prompts = call.batch * [PROMPT]
    return {
        "prompt": prompts,
        "negative_prompt": call.batch * [NEGATIVE] if call.cfg else "",
        "guidance_scale": 4.0 if call.cfg else 1.0,
        "num_images_per_prompt": call.images_per_prompt,
        "height": call.height or 32,
        "width": call.width or 32,
        "output_type": "latent",
        "use_resolution_binning": False,
        "complex_human_instruction": None,
        "max_sequence_length": 16,
    }
