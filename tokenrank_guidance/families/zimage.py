"""Z-Image: lists of images in and out; image and prompt share one map, each padded to whole 32 tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Holding, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs as Given
from tokenrank_guidance.families.picture import Picture, PicturePass, longest_text
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    middle_layer,
    processed,
)
from tokenrank_guidance.families.words import TextTokens, Words, chat, text_tokens, without_padding

MULTIPLE = 32
PATCH = 2  # the forward's default
STACKS = ("noise_refiner.", "layers.")
Images = Sequence[Any]  # (c, 1, h, w) each, or what Omni gives for one: its pictures, and the image last


def _own(image: Any) -> Float[Tensor, "c one h w"]:
    """The image that is drawn: the last of a list."""
    return image[-1] if isinstance(image, list) else image


def _read(images: Images, inputs: Inputs) -> Float[Tensor, "b c h w"]:
    return torch.stack([_own(image) for image in images]).squeeze(2)


def _write(images: Images, others: Float[Tensor, "b c h w"], inputs: Inputs) -> Images:
    pairs = zip(images, others.unsqueeze(2).unbind(), strict=True)
    return [[*image[:-1], other] if isinstance(image, list) else other for image, other in pairs]


def _padded(tokens: int) -> int:
    return -(-tokens // MULTIPLE) * MULTIPLE


def _size(image: Tensor | None, patch: int) -> int:
    """How many tokens an image has, with its padding; a picture that is missing has padding alone."""
    return MULTIPLE if image is None else _padded(image[0, 0].numel() // patch**2)


def _captions(inputs: Inputs) -> list[int]:
    """How many tokens each image's prompt has with its padding, or its prompts with theirs."""
    return [
        sum(_padded(len(one)) for one in (text if isinstance(text, list) else [text]))
        for text in inputs["cap_feats"]
    ]


def _seen(inputs: Inputs) -> list[int]:
    """How many tokens SigLIP's pictures have beside each image."""
    rows = inputs.get("siglip_feats") or [None] * len(inputs["x"])
    sizes = [[MULTIPLE if one is None else _padded(one[..., 0].numel()) for one in row or ()] for row in rows]
    return [sum(row) for row in sizes]


def _patch(inputs: Inputs) -> int:
    return inputs.get("patch_size") or PATCH


def _spans(call: ForwardPass) -> TokenSpans:
    """The image, its padding, the prompt; in Omni's calls prompts, pictures, the image, SigLIP's pictures."""
    images, patch = call.inputs["x"], _patch(call.inputs)
    height, width = (side // patch for side in _own(images[0]).shape[-2:])
    image, omni = height * width, isinstance(images[0], list)
    pictures = [sum(_size(one, patch) for one in row[:-1]) if omni else 0 for row in images]
    own = _padded(image)
    if call.layer.startswith("noise_refiner."):
        starts, ends = pictures, [0] * len(images)
    elif omni:
        starts = [sum(both) for both in zip(_captions(call.inputs), pictures, strict=True)]
        ends = _seen(call.inputs)
    else:
        starts, ends = pictures, _captions(call.inputs)
    total = own + max(map(sum, zip(starts, ends, strict=True)))
    first = starts[0]
    if any(start != first for start in starts):
        return TokenSpans(total, (height, width), slice(0, image), starts=tuple(starts))
    joint = not omni and call.layer.startswith("layers.")
    text = slice(own, own + max(map(len, call.inputs["cap_feats"]))) if joint else None
    return TokenSpans(total, (height, width), slice(first, first + image), text)


def _layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image; those that refine prompts or pictures alone are none of its maps."""
    kinds = processed("noise_refiner", "layers")(model)
    return {name: kind for name, kind in kinds.items() if name.startswith(STACKS)}


def _auto(names: Sequence[str]) -> str:
    return middle_layer([name for name in names if name.startswith("layers.")] or names)


def _items(name: str) -> Callable[[Inputs, slice], Any]:
    """A list with an item for each row."""
    return lambda inputs, rows: inputs[name][rows]


def _controls(inputs: Inputs, rows: slice) -> dict[int, Float[Tensor, "b n dim"]]:
    """A ControlNet's residuals for those rows, padded to their longest prompt and not to the batch's."""
    image = _size(_own(inputs["x"][0]), _patch(inputs))
    tokens = image + max(_captions(inputs)[rows])
    return {layer: residual[rows, :tokens] for layer, residual in inputs["controlnet_block_samples"].items()}


def _several(denoiser: nn.Module, inputs: Inputs) -> str:
    sizes = {tuple(_own(image).shape[1:]) for image in inputs["x"]}
    if len(sizes) > 1:
        return "gives its denoiser images of several sizes at once, which guidance does not blur together"
    if sizes.pop()[0] > 1:
        return "makes several frames at once, whose tokens are read as one picture's here"
    return ""


def _inputs(call: PicturePass) -> Given:
    """One image, with a prompt as its pipeline's chat template frames it."""
    text, _ = call.pipe.encode_prompt(call.caption, device=call.device, do_classifier_free_guidance=False)
    return {
        "x": list(call.latents.unsqueeze(2).unbind()),
        "t": 1 - call.times(1 / 1000),
        "cap_feats": [one.to(call.latents.dtype) for one in text],
    }


def _words(pipe: Any) -> list[TextTokens]:
    """A caption's tokens in the chat template, without padding."""
    frame = chat(pipe.tokenizer, enable_thinking=True)
    return [text_tokens(pipe.tokenizer, longest_text(pipe), frame=frame, kept=without_padding)]


LISTS = ("x", "cap_feats", "siglip_feats", "image_noise_mask")


def _omni(pipe: Any) -> str:
    if getattr(pipe, "siglip", None) is None:
        return ""
    return "its captions are parts around reference pictures (Omni): use ZImagePipeline with the same weights"


Z_IMAGE = Family(
    models=("ZImageTransformer2DModel",),
    tokens=Tokens(_spans, _layers, _auto),
    # Time runs from 0, noise, to 1, and the output points to the image; the prompt's half is first.
    calling=Calling(
        sample="x",
        time="t",
        holding=Holding(_read, _write),
        rows={name: _items(name) for name in LISTS} | {"controlnet_block_samples": _controls},
        unconditional=1,
        timestep_scale=-1000.0,
        timestep_offset=1000.0,
        sign=-1,
        refused=_several,
    ),
    picture=Picture(_inputs, patch=PATCH, refused=_omni),
    words=Words(_words, joint=True, stacks=("layers",)),
)
FAMILIES = (Z_IMAGE,)
