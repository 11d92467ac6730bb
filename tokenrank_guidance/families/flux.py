"""FLUX and FLUX 2: text and image tokens share one map, the text's first, the image's in squares of 2×2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from tokenrank_guidance.components import config_of, execution_device
from tokenrank_guidance.families.calling import Habits
from tokenrank_guidance.families.calling import Inputs as Call
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.packed import PACKED, SIDE, packed, unpacked
from tokenrank_guidance.families.picture import Inputs, Latents, Picture, PicturePass, longest_text
from tokenrank_guidance.families.tokens import ForwardPass, Grid, Tokens, TokenSpans, middle_layer, processed
from tokenrank_guidance.families.words import MARK, Concepts, TextTokens, Words, chat, text_tokens

LAYERS = processed("transformer_blocks", "single_transformer_blocks")


def text_then_image(call: ForwardPass) -> TokenSpans:
    text = call.inputs["encoder_hidden_states"].shape[1]
    count, grid = image_tokens(call.inputs["img_ids"])
    total = text + call.inputs["hidden_states"].shape[1]
    return TokenSpans(total, grid, slice(text, text + count), slice(0, text))


# Reading positions waits for the GPU, and a pipeline gives the same tensor at every step.
_images: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def image_tokens(ids: Shaped[Tensor, "..."], first: int = 0) -> tuple[int, Grid | None]:
    """Number of generated image tokens and their grid, read once per version of these positions.

    `first` positions before them are not the image's.
    """
    if ids.is_inference():  # such tensors do not count their versions
        return _read_image(ids, first)
    if ids not in _images or _images[ids][0] != (ids._version, first):
        _images[ids] = ((ids._version, first), _read_image(ids, first))
    return _images[ids][1]


def _read_image(ids: Shaped[Tensor, "..."], first: int) -> tuple[int, Grid | None]:
    """Columns are (image, row, column, ...); reference images (Kontext) follow under another image number.

    A row ends where its number changes. Pipelines round positions to bfloat16, which has not all of them from
    256 on, so that the largest ones do not tell the size.
    """
    places = (ids[0] if ids.ndim == 3 else ids)[first:].cpu()
    count = _alike(places[:, 0])
    places = places[:count]
    width = _alike(places[:, 1])
    if count % width:
        return count, None
    rows, columns = places[:, 1:3].unflatten(0, (-1, width)).unbind(-1)
    filled = bool((rows == rows[:, :1]).all() and (columns == columns[:1]).all())
    moves = width == 1 or bool(columns[0, -1] > columns[0, 0])
    return count, (count // width, width) if filled and moves else None


def _alike(numbers: Shaped[Tensor, " n"]) -> int:
    """How many there are before the first that differs."""
    return int((numbers == numbers[0]).cumprod(0).sum())


def _longest(pipe: Any) -> int | None:
    """T5's own limit may be below the pipeline's."""
    asked = longest_text(pipe)
    return None if asked is None else min(asked, pipe.tokenizer_2.model_max_length)


def _inputs(call: PicturePass) -> Inputs:
    """Packed latents, positions of tokens; guidance-distilled models at guidance 1.

    For Fill the image and a mask of zeros follow, which keeps all of it.
    """
    pipe, (height, width) = call.pipe, call.latents.shape[-2:]
    text, pooled, text_ids = pipe.encode_prompt(
        call.caption, device=call.device, max_sequence_length=_longest(pipe)
    )
    tokens = packed(call.latents)
    if call.mask:
        empty = tokens.new_zeros(*tokens.shape[:2], call.mask)
        tokens = torch.cat([tokens, packed(call.image), empty], -1)
    distilled = config_of(pipe).get("guidance_embeds", False)
    return {
        "hidden_states": tokens,
        "timestep": call.times(1 / 1000),
        "encoder_hidden_states": text,
        "pooled_projections": pooled,
        "txt_ids": text_ids,
        "img_ids": positions(height // SIDE, width // SIDE).to(call.device, call.latents.dtype),
        "guidance": call.numbers(1.0)[0] if distilled else None,
    }


def positions(height: int, width: int) -> Shaped[Tensor, "n 3"]:
    """(image, row, column) of each token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1)


def _t5(pipe: Any) -> list[TextTokens]:
    """CLIP gives one pooled vector and no tokens."""
    return [text_tokens(pipe.tokenizer_2, _longest(pipe))]


def _concept(pipe: Any, text: str) -> tuple[Float[Tensor, "1 n dim"], Float[Tensor, "1 pooled"]]:
    device = execution_device(pipe)
    tokens, pooled, _ = pipe.encode_prompt(text, None, device=device, max_sequence_length=_longest(pipe))
    return tokens, pooled


def _cached_keys(denoiser: nn.Module, inputs: Call) -> str:
    if inputs.get("kv_cache_mode") is None:
        return ""
    return (
        "caches keys of its reference images, so no call holds the whole map; "
        "use Flux2KleinPipeline with the same weights"
    )


def _is_klein(pipe: Any) -> bool:
    """Its text encoder is told nothing by a system, and its denoiser no guidance."""
    return not hasattr(pipe, "system_message")


def _inputs_2(call: PicturePass) -> Inputs:
    """FLUX 2's: positions have a fourth column."""
    pipe, (height, width) = call.pipe, call.latents.shape[-2:]
    text, text_ids = pipe.encode_prompt(call.caption, device=call.device)
    places = positions(height // SIDE, width // SIDE)
    return {
        "hidden_states": packed(call.latents),
        "timestep": call.times(1 / 1000),
        "guidance": None if _is_klein(pipe) else call.numbers(1.0)[0],
        "encoder_hidden_states": text,
        "txt_ids": text_ids,
        "img_ids": nn.functional.pad(places, (0, 1))[None].to(call.device),
    }


def normalised(vae: Any, encoded: Latents) -> Latents:
    """By the running mean and variance of each number of a square, as FLUX 2's autoencoder keeps them."""
    height, width = encoded.shape[-2:]
    variance = vae.bn.running_var + vae.config.batch_norm_eps
    tokens = (packed(encoded) - vae.bn.running_mean.to(encoded)) / variance.sqrt().to(encoded)
    return unpacked(tokens, (height // SIDE, width // SIDE))


def _conversation(pipe: Any) -> tuple[Any, Callable[[str], str], bool]:
    """The tokenizer, the text it is given, and whether it adds special tokens to it.

    Mistral reads a message of the system too; Qwen 3 (Klein) is asked not to think.
    """
    tokenizer = getattr(pipe.tokenizer, "tokenizer", pipe.tokenizer)  # of a processor of pictures and texts
    if _is_klein(pipe):
        return tokenizer, chat(tokenizer, enable_thinking=False), True

    def frame(caption: str) -> str:
        parts = {"system": pipe.system_message, "user": caption.replace("[IMG]", "")}
        turns = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in parts.items()]
        return pipe.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)

    begun = tokenizer.bos_token is not None and frame(MARK).startswith(tokenizer.bos_token)
    return tokenizer, frame, tokenizer is not pipe.tokenizer and not begun


def _words_2(pipe: Any) -> list[TextTokens]:
    tokenizer, frame, special = _conversation(pipe)
    options = {"padding": "max_length", "add_special_tokens": special}
    return [text_tokens(tokenizer, longest_text(pipe), frame=frame, options=options)]


FLUX = Family(
    models=("FluxTransformer2DModel",),
    tokens=Tokens(text_then_image, LAYERS),
    calling=PACKED,
    picture=Picture(_inputs),
    words=Words(_t5, _longest, joint=True, concepts=Concepts(_concept, time_scale=1000.0)),
    packing=SIDE,
    pipelines={
        "FluxFillPipeline": Habits(mask="pixels"),
        "FluxKontextPipeline": Habits(draws_alone=True),
    },
)
FLUX2 = Family(
    models=("Flux2Transformer2DModel",),
    tokens=Tokens(text_then_image, LAYERS, middle_layer),
    calling=replace(PACKED, refused=_cached_keys),
    picture=Picture(_inputs_2, latents=normalised),
    words=Words(_words_2, joint=True),
    packing=SIDE,
    pipelines=dict.fromkeys(("Flux2Pipeline", "Flux2KleinPipeline"), Habits(draws_alone=True)),
)
FAMILIES = (FLUX, FLUX2)
