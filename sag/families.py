"""What differs between denoisers: where the sample is, how time is counted, which half is unconditional."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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


def _nothing(denoiser: nn.Module, inputs: Inputs) -> str:
    return ""


def _several_layers(denoiser: Any, inputs: Inputs) -> str:
    layered = denoiser.config.use_layer3d_rope
    return "makes several layers at once, which guidance does not tell apart yet" if layered else ""


def _several_frames(denoiser: nn.Module, inputs: Inputs) -> str:
    return f"makes several frames at once: {VIDEO}" if inputs["hidden_states"].shape[1] > 1 else ""


def _cached_keys(denoiser: nn.Module, inputs: Inputs) -> str:
    if inputs.get("kv_cache_mode") is None:
        return ""
    return (
        "caches keys of its reference images, so no call holds the whole map; "
        "use Flux2KleinPipeline with the same weights"
    )


@dataclass(frozen=True)
class Family:
    """How a denoiser class is called.

    `sample` is the name of its first argument; `channel_axis` holds the latent channels in input and output;
    its timestep argument times `timestep_scale` plus `timestep_offset` is the scheduler's, which is given its
    output times `sign`. Where a batch holds both halves of classifier-free guidance, `unconditional` (0 or 1)
    is the half without the prompt; `prompt_first`, whether its pipelines make two calls instead, the prompt's
    first. `edit` applies a function of latent images to a sample. `refused` tells, of (denoiser, inputs by
    name), why a call cannot be guided, empty where it can. `renormalises`: its pipelines give each token or
    row what classifier-free guidance made of it the length that it had under the prompt.
    """

    sample: str
    unconditional: int = 0
    prompt_first: bool = False
    channel_axis: int = 1
    timestep_scale: float = 1.0
    timestep_offset: float = 0.0
    sign: Literal[1, -1] = 1
    edit: Callable[[Tensor, Grid, Edit], Tensor] = _edit_image
    refused: Callable[[nn.Module, Inputs], str] = _nothing
    renormalises: bool = False


PACKED = Family(  # latents in tokens of 2×2, and time from 0 to 1
    "hidden_states", prompt_first=True, channel_axis=-1, timestep_scale=1000.0, edit=_edit_packed
)
LUMINA = (
    Family(  # time runs from 0, noise, to 1, and the output points to the image; the prompt's half is first
        "hidden_states", unconditional=1, timestep_scale=-1000.0, timestep_offset=1000.0, sign=-1
    )
)


VIDEO = "its latents have a time axis, which guidance does not blur yet"
FAMILIES: dict[str, Family] = {
    "UNet2DConditionModel": Family("sample"),
    "UNet2DModel": Family("sample"),
    "DiTTransformer2DModel": Family("hidden_states", unconditional=1),
    "PixArtTransformer2DModel": Family("hidden_states"),
    "SD3Transformer2DModel": Family("hidden_states"),
    "FluxTransformer2DModel": PACKED,
    "Flux2Transformer2DModel": replace(PACKED, refused=_cached_keys),
    "AuraFlowTransformer2DModel": Family("hidden_states", timestep_scale=1000.0),
    "HunyuanDiT2DModel": Family("hidden_states"),
    "Kandinsky5Transformer3DModel": Family(
        "hidden_states", prompt_first=True, channel_axis=-1, edit=_edit_frame, refused=_several_frames
    ),
    "LuminaNextDiT2DModel": LUMINA,
    "Lumina2Transformer2DModel": replace(LUMINA, prompt_first=True, renormalises=True),
    "QwenImageTransformer2DModel": replace(PACKED, refused=_several_layers, renormalises=True),
}


NO_LAYOUT = "where its image tokens are is not known here yet"
LINEAR = "its self-attention is linear, with no map to capture: relu(q)·relu(k)ᵀ is not read as a chain yet"
FRAMES_AS_IMAGES = "its frames share the batch axis, which guidance reads as images"
SOUND = "it makes sound, whose tokens are no grid of an image"
DISCRETE = "it predicts classes of image tokens, not noise"
VIDEO_DENOISERS = (
    *("AllegroTransformer3DModel", "AnyFlowFARTransformer3DModel", "AnyFlowTransformer3DModel"),
    *("ChronoEditTransformer3DModel", "CogVideoXTransformer3DModel", "CosmosTransformer3DModel"),
    *("Cosmos3OmniTransformer", "EasyAnimateTransformer3DModel", "HeliosTransformer3DModel"),
    *("HunyuanVideo15Transformer3DModel", "HunyuanVideoFramepackTransformer3DModel"),
    *("HunyuanVideoTransformer3DModel", "I2VGenXLUNet", "JoyImageEditPlusTransformer3DModel"),
    *("JoyImageEditTransformer3DModel", "Kandinsky6SRTransformer3DModel", "Kandinsky6Transformer3DModel"),
    *("LTX2VideoTransformer3DModel", "LTXVideoTransformer3DModel", "LatteTransformer3DModel"),
    *("MochiTransformer3DModel", "MotifVideoTransformer3DModel", "SanaVideoTransformer3DModel"),
    *("SanaWMTransformer3DModel", "SanaWMLTX2RefinerTransformer3DModel"),
    *("SkyReelsV2Transformer3DModel", "UNet3DConditionModel"),
    *("UNetSpatioTemporalConditionModel", "WanAnimateTransformer3DModel", "WanTransformer3DModel"),
    "WanVACETransformer3DModel",
)
WITHOUT_LAYOUT = (
    *("BriaFibo2Transformer2DModel", "BriaFiboTransformer2DModel", "BriaTransformer2DModel"),
    *("ChromaTransformer2DModel", "CogView3PlusTransformer2DModel", "CogView4Transformer2DModel"),
    *("ErnieImageTransformer2DModel", "GlmImageTransformer2DModel", "HiDreamImageTransformer2DModel"),
    *("HunyuanImageTransformer2DModel", "Ideogram4Transformer2DModel", "Kandinsky3UNet"),
    *("Krea2Transformer2DModel", "LongCatImageTransformer2DModel", "NucleusMoEImageTransformer2DModel"),
    *("OmniGenTransformer2DModel", "OvisImageTransformer2DModel", "PRXTransformer2DModel"),
    *("QwenImage21Transformer2DModel", "UNetControlNetXSModel", "ZImageTransformer2DModel"),
    "DreamLiteUNetModel",
)
SOUND_DENOISERS = (
    *("AceStepTransformer1DModel", "AudioLDM2UNet2DConditionModel", "LongCatAudioDiTTransformer"),
    *("StableAudio3DiTModel", "StableAudioDiTModel", "UNet1DModel"),
)
REFUSED: dict[str, str] = {
    **dict.fromkeys(VIDEO_DENOISERS, VIDEO),
    **dict.fromkeys(WITHOUT_LAYOUT, NO_LAYOUT),
    **dict.fromkeys(SOUND_DENOISERS, SOUND),
    "SanaTransformer2DModel": LINEAR,
    "UNetMotionModel": FRAMES_AS_IMAGES,
    "Transformer2DModel": DISCRETE,
    "UVit2DModel": DISCRETE,
    "UniDiffuserModel": "it denoises a picture and a text at once, both in one row of numbers",
    "RFD4ProteinaTransformer": "it denoises atoms, not an image",
}


def family_of(denoiser: nn.Module) -> Family:
    """The entry for a denoiser's class or nearest listed base; UnsupportedError, with why, without one."""
    name = type(denoiser).__name__
    for base in type(denoiser).__mro__:
        if base.__name__ in FAMILIES:
            return FAMILIES[base.__name__]
        if base.__name__ in REFUSED:
            raise UnsupportedError(f"cannot guide {name}: {REFUSED[base.__name__]}")
    raise UnsupportedError(
        f"cannot guide {name}: how it is called is not known here; known denoisers: {', '.join(FAMILIES)}"
    )
