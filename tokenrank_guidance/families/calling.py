"""How samplers call a denoiser, and how pipelines lay out what they give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from tokenrank_guidance.families.tokens import Grid

Inputs = Mapping[str, Any]
Edit = Callable[[Float[Tensor, "images c h w"]], Float[Tensor, "images c h w"]]


def edit_image(sample: Float[Tensor, "b c h w"], grid: Grid, edit: Edit) -> Float[Tensor, "b c h w"]:
    """Latents that are an image already."""
    return edit(sample)


def edit_video(sample: Float[Tensor, "b c t h w"], grid: Grid, edit: Edit) -> Float[Tensor, "b c t h w"]:
    """Videos, whose frames are images one after the other."""
    return edit_frames(sample.transpose(1, 2), grid, edit).transpose(1, 2)


def edit_frames(sample: Float[Tensor, "b t c h w"], grid: Grid, edit: Edit) -> Float[Tensor, "b t c h w"]:
    """Videos whose frames come before the channels."""
    return edit(sample.flatten(0, 1)).unflatten(0, sample.shape[:2])


def no_reason(denoiser: nn.Module, inputs: Inputs) -> str:
    """Every call can be guided."""
    return ""


def nothing_held(denoiser: nn.Module, inputs: Inputs) -> Bool[Tensor, "batch ..."] | None:
    """All of the sample is drawn."""
    return None


def whole_sample(denoiser: nn.Module, inputs: Inputs, value: Tensor, given: Tensor) -> Tensor:
    """Schedulers step all that a denoiser is given, as it is given."""
    return value


@dataclass(frozen=True)
class Holding:
    """How a call holds its images, which its inputs by name may tell.

    `read` gives them in one tensor, of (what holds them, inputs); `write` what holds others in their place,
    of (what holds them, the others, inputs).
    """

    read: Callable[[Any, Inputs], Float[Tensor, "b *latent"]]
    write: Callable[[Any, Float[Tensor, "b *latent"], Inputs], Any]


A_TENSOR = Holding(lambda held, inputs: held, lambda held, images, inputs: images)


POSITIONS = ("image_rotary_emb", "img_ids", "txt_ids", "position_ids", "text_rope_pos", "visual_rope_pos")


@dataclass(frozen=True)
class Calling:
    """How a denoiser class is called.

    `sample` is the name of its first argument and `time` of its timestep's; `holding`, how that sample and
    its output hold the images; `rows` gives, of (inputs by name, rows of the batch), those rows of arguments
    that are not tensors with a row first, and `shared` names those that have none: positions are the same for
    the whole batch, and there may be as many as rows. `channel_axis` holds the latent channels in input and
    output; its timestep times `timestep_scale` plus `timestep_offset` is the scheduler's, or that times the
    number of its configuration which `timestep_entry` names; the scheduler is given its output times `sign`.
    Where a batch holds both halves of classifier-free guidance, `unconditional` (0 or 1) is the half without
    the prompt; `prompt_first`, whether its pipelines make two calls instead, the prompt's first. `edit`
    applies a function of latent images, such as a video's frames one after the other, to a sample. `refused`
    tells, of (denoiser, inputs by name), why a call cannot be guided, empty where it can. `renormalises`: its
    pipelines give each token or row what classifier-free guidance made of it the length that it had under the
    prompt. `held` tells, of the same two, which values of the sample are given and not drawn, such as the
    first frame of a video: it broadcasts to the sample, None where there are none. `times` gives, of the
    inputs by name, the times of a batch, or of each of its tokens, of which the largest counts, where its
    timestep does not tell these itself.
    """

    sample: str = "hidden_states"
    time: str = "timestep"
    holding: Holding = A_TENSOR
    rows: Mapping[str, Callable[[Inputs, slice], Any]] = field(default_factory=dict)
    shared: tuple[str, ...] = POSITIONS
    unconditional: int = 0
    prompt_first: bool = False
    channel_axis: int = 1
    timestep_scale: float = 1.0
    timestep_offset: float = 0.0
    timestep_entry: str = ""
    sign: Literal[1, -1] = 1
    edit: Callable[[Tensor, Grid, Edit], Tensor] = edit_image
    refused: Callable[[nn.Module, Inputs], str] = no_reason
    renormalises: bool = False
    held: Callable[[nn.Module, Inputs], Bool[Tensor, "batch ..."] | None] = nothing_held
    times: Callable[[Inputs], Any] | None = None


@dataclass(frozen=True)
class Habits:
    """How a pipeline calls its denoiser, where its class alone tells.

    `sample` is the local variable with what its scheduler steps, one row an image. Its batch holds parts of
    these rows one after the other, or row by row where `interleaved`; `unconditional` is the part without the
    prompt where there are three or more. The noisy channels come first, or last where `noisy_last`. Each
    call, or each of its sections, sets the scheduler's timesteps anew, by which each is guided by itself; one
    that `copies` schedulers has its timesteps in the local variable of that name.
    `mask`: beside the latents its denoiser may take a mask, a number for each of the "latents" or "pixels",
    and the latents of the masked picture. `draws_alone`: it draws without the picture that it takes, too.
    `angles`: its scheduler steps angles t (TrigFlow), its denoiser predicts rectified flow at
    σ = sin t / (sin t + cos t).
    `predicts` names what its denoiser predicts ("sample") where its scheduler does not tell, as it is given
    what the pipeline makes of that. `edits`: how a sample is edited instead, by the setting of its call that
    changes how it packs its latents.
    `stepped` makes of a tensor that is laid out as the sample what its scheduler is given, by (denoiser,
    inputs by name, that tensor, what the scheduler is given); `negates`: what it steps by is the denoiser's
    output times -1.
    `mixes_more`: its own guiders mix other predictions beside those of classifier-free guidance, so that
    guidance goes through them, in place of becoming one.
    `negative`: the text that its call must be given where nothing is unwanted, None where it needs none.
    `schedulers`: the classes alone whose timesteps its denoiser is given; with others it is given something
    else. Any where empty.
    `refused` says why it cannot be guided, empty where it can.
    """

    sample: str = "latents"
    interleaved: bool = False
    unconditional: int | None = None
    noisy_last: bool = False
    copies: bool = False
    mask: Literal["", "latents", "pixels"] = ""
    draws_alone: bool = False
    angles: bool = False
    predicts: str = ""
    edits: Mapping[str, Callable[[Tensor, Grid, Edit], Tensor]] = field(default_factory=dict)
    stepped: Callable[[nn.Module, Inputs, Tensor, Tensor], Tensor] = whole_sample
    negates: bool = False
    mixes_more: bool = False
    negative: str | None = None
    schedulers: tuple[str, ...] = ()
    refused: str = ""
