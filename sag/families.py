"""What differs between denoisers: where the sample is, how time is counted, which half is unconditional."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.errors import UnsupportedError

Grid = tuple[int, int]
Inputs = Mapping[str, Any]
Edit = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b c h w"]]


def _edit_image(sample: Float[Tensor, "b c h w"], grid: Grid, edit: Edit) -> Float[Tensor, "b c h w"]:
    return edit(sample)


def _edit_packed(tokens: Float[Tensor, "b n 4c"], grid: Grid, edit: Edit) -> Float[Tensor, "b n 4c"]:
    """FLUX packs 2×2 latent pixels into a token; reference images (Kontext) follow those of the grid."""
    height, width = grid
    image = tokens[:, : height * width].unflatten(1, grid).unflatten(-1, (-1, 2, 2))
    image = image.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
    image = edit(image).unflatten(3, (width, 2)).unflatten(2, (height, 2))
    edited = image.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return torch.cat([edited, tokens[:, height * width :]], dim=1)


def _edit_frame(frame: Float[Tensor, "b 1 h w c"], grid: Grid, edit: Edit) -> Float[Tensor, "b 1 h w c"]:
    return edit(frame.squeeze(1).movedim(-1, 1)).movedim(1, -1).unsqueeze(1)


def _never(pipe: Any, denoiser: nn.Module, inputs: Inputs) -> bool:
    return False


def _refuse_perturbed(pipe: Any) -> None:
    """PAG's processors cut every batch into their own parts, guidance's extra pass too."""
    if getattr(pipe, "do_perturbed_attention_guidance", False):
        raise UnsupportedError(
            f"{type(pipe).__name__} perturbs attention in a part of its batch, which then is not two equal "
            "halves: guide with it or with this, calling it with pag_scale=0"
        )


def _equal_halves(pipe: Any, denoiser: nn.Module, inputs: Inputs) -> bool:
    """All there is where the pipeline does not tell; two images from equal noise look like one doubled."""
    _refuse_perturbed(pipe)
    sample = inputs["sample"] if "sample" in inputs else inputs["hidden_states"]
    return sample.shape[0] % 2 == 0 and torch.equal(*sample.chunk(2))


def _as_pipeline_says(pipe: Any, denoiser: nn.Module, inputs: Inputs) -> bool:
    """`pipe.do_classifier_free_guidance`, where it has one; SD3's skip-layer call is never doubled."""
    _refuse_perturbed(pipe)
    says = getattr(pipe, "do_classifier_free_guidance", None)
    if says is False or inputs.get("skip_layers") is not None:
        return False
    equal = _equal_halves(pipe, denoiser, inputs)
    if says and not equal:
        raise UnsupportedError(
            f"{type(pipe).__name__} guides classifier-free, but its batch is not two equal halves; "
            "a third part, as InstructPix2Pix has it, is not supported"
        )
    return equal


def _one_picture(pipe: Any, denoiser: Any, inputs: Inputs) -> bool:
    """Qwen-Image's halves are calls of their own; its layered variant makes several pictures at once."""
    if denoiser.config.use_layer3d_rope:
        raise UnsupportedError(
            f"{type(pipe).__name__} makes several layers at once, which guidance does not tell apart yet"
        )
    return False


def _one_frame(pipe: Any, denoiser: nn.Module, inputs: Inputs) -> bool:
    """Kandinsky 5's halves are calls of their own."""
    if inputs["hidden_states"].shape[1] > 1:
        raise UnsupportedError(f"{type(pipe).__name__} makes several frames at once: {VIDEO}")
    return False


def _without_cache(pipe: Any, denoiser: nn.Module, inputs: Inputs) -> bool:
    """FLUX.2's halves are calls of their own."""
    if inputs.get("kv_cache_mode") is not None:
        raise UnsupportedError(
            f"{type(pipe).__name__} caches keys of its reference images, so no call holds the whole map; "
            "use Flux2KleinPipeline with the same weights"
        )
    return False


def _null_labels(pipe: Any, denoiser: Any, inputs: Inputs) -> bool:
    """DiT's pipeline does not tell, but labels its second half with the null class, one past the last."""
    labels = inputs["class_labels"]
    null = labels[labels.shape[0] // 2 :] == denoiser.config.num_embeds_ada_norm
    return bool(null.all()) and _equal_halves(pipe, denoiser, inputs)


@dataclass(frozen=True)
class Family:
    """How a denoiser class is called.

    `sample` is the name of its first argument; `channel_axis` holds the latent channels in input and output;
    its timestep argument times `timestep_scale` plus `timestep_offset` is the scheduler's, which is given its
    output times `sign`. `doubled` tells, of (pipeline, denoiser, inputs by name), whether a batch holds both
    halves of classifier-free guidance, of which `unconditional` (0 or 1) is the half without the prompt;
    `prompt_first`, whether its pipelines make two calls instead, the prompt's first. `edit` applies a
    function of latent images to a sample.
    """

    sample: str
    doubled: Callable[[Any, nn.Module, Inputs], bool]
    unconditional: int = 0
    prompt_first: bool = False
    channel_axis: int = 1
    timestep_scale: float = 1.0
    timestep_offset: float = 0.0
    sign: Literal[1, -1] = 1
    edit: Callable[[Tensor, Grid, Edit], Tensor] = _edit_image


def _packed(doubled: Callable[[Any, nn.Module, Inputs], bool]) -> Family:
    """Latents in tokens of 2×2, and time from 0 to 1."""
    return Family(
        "hidden_states",
        doubled,
        prompt_first=True,
        channel_axis=-1,
        timestep_scale=1000.0,
        edit=_edit_packed,
    )


def _lumina(doubled: Callable[[Any, nn.Module, Inputs], bool], prompt_first: bool) -> Family:
    """Time runs from 0, noise, to 1, and the output points to the image; the prompt's half is first."""
    return Family(
        "hidden_states",
        doubled,
        unconditional=1,
        prompt_first=prompt_first,
        timestep_scale=-1000.0,
        timestep_offset=1000.0,
        sign=-1,
    )


VIDEO = "its latents have a time axis, which guidance does not blur yet"
FAMILIES: dict[str, Family] = {
    "UNet2DConditionModel": Family("sample", _as_pipeline_says),
    "UNet2DModel": Family("sample", _never),
    "DiTTransformer2DModel": Family("hidden_states", _null_labels, unconditional=1),
    "PixArtTransformer2DModel": Family("hidden_states", _equal_halves),
    "SD3Transformer2DModel": Family("hidden_states", _as_pipeline_says),
    "FluxTransformer2DModel": _packed(_never),
    "Flux2Transformer2DModel": _packed(_without_cache),
    "AuraFlowTransformer2DModel": Family("hidden_states", _equal_halves, timestep_scale=1000.0),
    "HunyuanDiT2DModel": Family("hidden_states", _as_pipeline_says),
    "Kandinsky5Transformer3DModel": Family(
        "hidden_states", _one_frame, prompt_first=True, channel_axis=-1, edit=_edit_frame
    ),
    "LuminaNextDiT2DModel": _lumina(_equal_halves, prompt_first=False),
    "Lumina2Transformer2DModel": _lumina(_never, prompt_first=True),
    "QwenImageTransformer2DModel": _packed(_one_picture),
}


NO_LAYOUT = "where its image tokens are is not known here yet"
REFUSED: dict[str, str] = {
    "SanaTransformer2DModel": "its self-attention is linear, so there is no map to rank tokens by",
    "UNetMotionModel": "its frames share the batch axis, which guidance reads as images",
    "WanTransformer3DModel": VIDEO,
    "Kandinsky3UNet": NO_LAYOUT,
}


def family_of(denoiser: nn.Module) -> Family:
    """The entry for a denoiser's class or nearest listed base; UnsupportedError, with why, without one."""
    for base in type(denoiser).__mro__:
        if base.__name__ in FAMILIES:
            return FAMILIES[base.__name__]
    name = type(denoiser).__name__
    because = f": {REFUSED[name]}" if name in REFUSED else ""
    raise UnsupportedError(f"cannot guide {name}{because}; supported denoisers: {', '.join(FAMILIES)}")
