"""Lumina-Next, whose text is apart, and Lumina 2, where each prompt comes before its image, unpadded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from torch import nn

from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass, longest_text
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    image_only,
    middle_layer,
    patch_grid,
    patch_spans,
    processed,
)
from tokenrank_guidance.families.words import TextTokens, Words, text_tokens

PLACES, PATCH = 384, 16  # of Lumina-Next: positions a side, pixels a side of a token


def _layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image; those that refine the text alone are none of its maps."""
    kinds = processed("noise_refiner", "layers")(model)
    return {name: kind for name, kind in kinds.items() if not name.startswith("context_refiner.")}


def _auto(names: Sequence[str]) -> str:
    return middle_layer([name for name in names if name.startswith("layers.")] or names)


def _spans(call: ForwardPass) -> TokenSpans:
    """Each prompt without its padding, then its image; rows with shorter prompts are padded at the end."""
    height, width = grid = patch_grid(call)
    image = height * width
    if call.layer.startswith("noise_refiner."):
        return image_only(grid)
    prompts = call.inputs["encoder_attention_mask"].sum(1).tolist()  # read by the model too
    longest = max(prompts)
    if min(prompts) == longest:
        return TokenSpans(longest + image, grid, slice(longest, longest + image), slice(0, longest))
    return TokenSpans(longest + image, grid, slice(0, image), starts=tuple(prompts))


def _next(call: PicturePass) -> Inputs:
    """Positions stretch with the side, linearly where there is noise."""
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    pipe, network = call.pipe, cast(Any, denoiser_of(call.pipe))
    text, mask, *_ = pipe.encode_prompt(call.caption, do_classifier_free_guidance=False, device=call.device)
    stretch = math.sqrt(math.prod(call.size)) / pipe.default_image_size
    how = {"linear_factor" if call.time > 0 else "ntk_factor": stretch}
    return {
        "hidden_states": call.latents,
        "timestep": 1 - call.times(1 / 1000),
        "encoder_hidden_states": text,
        "encoder_mask": mask,
        "image_rotary_emb": get_2d_rotary_pos_embed_lumina(network.head_dim, PLACES, PLACES, **how),
        "cross_attention_kwargs": {"base_sequence_length": (pipe.default_image_size // PATCH) ** 2},
    }


def _inputs(call: PicturePass) -> Inputs:
    """Without a caption the instructions before it are left out too, as in a negative prompt."""
    text, mask, *without = call.pipe.encode_prompt(
        call.caption, do_classifier_free_guidance=not call.caption, device=call.device
    )
    if not call.caption:
        text, mask = without
    return {
        "hidden_states": call.latents,
        "timestep": 1 - call.times(1 / 1000),
        "encoder_hidden_states": text,
        "encoder_attention_mask": mask,
    }


def _words(pipe: Any) -> list[TextTokens]:
    """After the instructions, and without padding: the first tokens, as many as are real."""

    def frame(caption: str) -> str:
        return f"{pipe.system_prompt} <Prompt Start> {caption}"

    def kept(mask: Sequence[int]) -> Sequence[int]:
        return range(sum(mask))

    return [text_tokens(pipe.tokenizer, longest_text(pipe), frame=frame, kept=kept)]


def _gemma(pipe: Any) -> list[TextTokens]:
    """Lumina-Next's, padded to whole eights."""
    options = {"padding": "longest", "pad_to_multiple_of": 8}
    return [text_tokens(pipe.tokenizer, pipe.max_sequence_length, options=options)]


# Time runs from 0, noise, to 1, and the output points to the image; the prompt's half is first.
CALLING = Calling(unconditional=1, timestep_scale=-1000.0, timestep_offset=1000.0, sign=-1)
LUMINA_NEXT = Family(
    models=("LuminaNextDiT2DModel",),
    tokens=Tokens(patch_spans, processed()),
    calling=CALLING,
    picture=Picture(_next),
    words=Words(_gemma, walks=False),
)
LUMINA2 = Family(
    models=("Lumina2Transformer2DModel",),
    tokens=Tokens(_spans, _layers, _auto),
    calling=replace(CALLING, prompt_first=True, renormalises=True),
    picture=Picture(_inputs),
    words=Words(_words, joint=True, stacks=("layers",)),
)
FAMILIES = (LUMINA_NEXT, LUMINA2)
