"""Transformers over patches of latents that attend to text apart, or to a class: DiT, PixArt, Hunyuan-DiT."""

from __future__ import annotations

from typing import Any

import torch

from tokenrank_guidance.components import config_of, denoiser_of
from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass
from tokenrank_guidance.families.tokens import Tokens, patch_spans, processed
from tokenrank_guidance.families.words import TextTokens, Words, one_or_two, text_tokens

TOKENS = Tokens(patch_spans, processed())


def _null_class(call: PicturePass) -> Inputs:
    """The null class, one past the last."""
    null = torch.tensor([config_of(call.pipe)["num_embeds_ada_norm"]], device=call.device)
    return {"hidden_states": call.latents, "timestep": call.times(), "class_labels": null}


def _pixart(call: PicturePass) -> Inputs:
    pipe, (height, width) = call.pipe, call.size
    text, mask, *_ = pipe.encode_prompt(call.caption, False, device=call.device)
    micro: Inputs = {"resolution": None, "aspect_ratio": None}
    if config_of(pipe).get("sample_size") == 128:  # as the pipeline has it
        micro = {"resolution": call.numbers(height, width), "aspect_ratio": call.numbers(height / width)}
    return {
        "hidden_states": call.latents,
        "timestep": call.times(),
        "encoder_hidden_states": text,
        "encoder_attention_mask": mask,
        "added_cond_kwargs": micro,
    }


SIDE, OWN, CLIP, T5 = 512, 1024, 77, 256  # of Hunyuan-DiT: pixels that positions are of, and were trained at


def _hunyuan(call: PicturePass) -> Inputs:
    """Both encoders' text; positions as of a picture of 512 pixels a side; of no style."""
    from diffusers.models.embeddings import get_2d_rotary_pos_embed
    from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

    network: Any = denoiser_of(call.pipe)
    height, width = call.size
    texts: Inputs = {}
    for index, (limit, end) in enumerate(((CLIP, ""), (T5, "_t5"))):
        text, _, mask, _ = call.pipe.encode_prompt(
            call.caption,
            device=call.device,
            do_classifier_free_guidance=False,
            max_sequence_length=limit,
            text_encoder_index=index,
        )
        texts |= {f"encoder_hidden_states{end}": text, f"text_embedding_mask{end}": mask}
    patch = 8 * network.config.patch_size
    grid = (height // patch, width // patch)
    region = get_resize_crop_region_for_grid(grid, SIDE // patch)
    side = network.inner_dim // network.num_heads
    return texts | {
        "hidden_states": call.latents,
        "timestep": call.times().to(call.latents.dtype),
        "image_meta_size": call.numbers(OWN, OWN, height, width, 0, 0),
        "style": torch.zeros(1, dtype=torch.int64, device=call.device),
        "image_rotary_emb": get_2d_rotary_pos_embed(side, region, grid, device=call.device, output_type="pt"),
    }


def _both(pipe: Any) -> list[TextTokens]:
    """CLIP's, then T5's."""
    return [text_tokens(pipe.tokenizer, CLIP), text_tokens(pipe.tokenizer_2, T5, CLIP)]


DIT = Family(
    models=("DiTTransformer2DModel",),
    tokens=TOKENS,
    calling=Calling(unconditional=1),
    picture=Picture(_null_class, square=True),
)
PIXART = Family(
    models=("PixArtTransformer2DModel",),
    tokens=TOKENS,
    calling=Calling(),
    picture=Picture(_pixart),
    words=Words(one_or_two, walks=False),
)
HUNYUAN_DIT = Family(
    models=("HunyuanDiT2DModel",),
    tokens=TOKENS,
    calling=Calling(),
    picture=Picture(_hunyuan),
    words=Words(_both, walks=False),
)
FAMILIES = (DIT, PIXART, HUNYUAN_DIT)
