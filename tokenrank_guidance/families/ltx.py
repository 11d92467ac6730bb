"""LTX-Video: a video as one chain of packed latents, whose text is apart."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from tokenrank_guidance.families.calling import Calling, Edit, Habits, Inputs, edit_frames
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Grid, Tokens, TokenSpans, middle_layer
from tokenrank_guidance.families.volume import after_first_frame, layers, patch_of
from tokenrank_guidance.families.words import APART


def _spans(call: ForwardPass) -> TokenSpans:
    """Conditioning latents at other frames come first, then the video."""
    total, grid = call.inputs["hidden_states"].shape[1], _grid(call.inputs)
    return TokenSpans(total, grid, slice(total - math.prod(grid), total))


def _grid(inputs: Inputs) -> Grid:
    coordinates = inputs.get("video_coords")
    if coordinates is None:
        return inputs["num_frames"], inputs["height"], inputs["width"]
    if coordinates.is_inference():  # such tensors do not count their versions
        return _read_grid(coordinates)
    if coordinates not in _grids or _grids[coordinates][0] != coordinates._version:
        _grids[coordinates] = (coordinates._version, _read_grid(coordinates))
    return _grids[coordinates][1]


# Reading positions waits for the GPU, and a pipeline gives the same tensor at every step.
_grids: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _read_grid(coordinates: Float[Tensor, "b 3 n"]) -> Grid:
    """Each token's (frame, row, column), in pixels and seconds; the video's own first frame is at 0."""
    frames, *sides = coordinates[0].cpu()
    height, width = (len(side.unique()) for side in sides)
    own = len(frames) - int((frames == frames.min()).float().argmax())
    return own // (height * width), height, width


def _edit(tokens: Float[Tensor, "b n c"], grid: Grid, edit: Edit) -> Float[Tensor, "b n c"]:
    return edit_from(tokens.shape[1] - math.prod(grid), tokens, grid, edit)


def edit_from(first: int, tokens: Float[Tensor, "b n c"], grid: Grid, edit: Edit) -> Float[Tensor, "b n c"]:
    """Edits the video's tokens, from the `first` on, frame by frame; all others stay."""
    end = first + math.prod(grid)
    video = tokens[:, first:end].unflatten(1, grid).movedim(-1, 2)
    edited = edit_frames(video, grid, edit).movedim(2, -1).flatten(1, 3)
    return torch.cat([tokens[:, :first], edited, tokens[:, end:]], 1)


def held_tokens(denoiser: nn.Module, inputs: Inputs) -> Bool[Tensor, "b n 1"] | None:
    """Tokens whose own time is below the others'."""
    times = inputs["timestep"]
    if times.ndim < 2 or times.shape[1] == 1:
        return None
    return (times < times.amax(1, keepdim=True)).unsqueeze(-1)


def several_latents(denoiser: nn.Module, inputs: Inputs) -> str:
    """Why a network is refused that packs them."""
    return "packs several latents into a token" if math.prod(patch_of(denoiser)) > 1 else ""


def _frames_after_first(denoiser: nn.Module, inputs: Inputs, tokens: Tensor, given: Tensor) -> Tensor:
    """Unpacked, and without the picture that the video starts with."""
    return after_first_frame(tokens.unflatten(1, _grid(inputs)).movedim(-1, 1))


WINDOWS = "its windows hold latents of other windows among their tokens, which are not told apart here"
LTX = Family(
    models=("LTXVideoTransformer3DModel",),
    tokens=Tokens(_spans, layers("attn1", "transformer_blocks"), middle_layer),
    calling=Calling(channel_axis=-1, edit=_edit, held=held_tokens, refused=several_latents),
    pipelines={
        "LTXImageToVideoPipeline": Habits(stepped=_frames_after_first),
        "LTXConditionPipeline": Habits(negates=True),
        "LTXI2VLongMultiPromptPipeline": Habits(refused=WINDOWS),
    },
    wordless=APART,
)
FAMILIES = (LTX,)
