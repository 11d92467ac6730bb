"""Transformers over patches of latents that attend to text apart, or to a class: DiT, PixArt, Hunyuan-DiT."""

from __future__ import annotations

import torch

from tokenrank_guidance.components import config_of
from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass
from tokenrank_guidance.families.tokens import Tokens, patch_spans, processed
from tokenrank_guidance.families.words import Words, one_or_two

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
HUNYUAN_DIT = Family(models=("HunyuanDiT2DModel",), tokens=TOKENS, calling=Calling())
FAMILIES = (DIT, PIXART, HUNYUAN_DIT)
