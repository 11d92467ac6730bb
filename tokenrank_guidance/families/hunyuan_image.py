"""HunyuanImage 2.1 and its refiner: image tokens first, then those of one or two text encoders."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Edit, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import ForwardPass, Grid, Tokens, TokenSpans, processed

STACKS = ("transformer_blocks", "single_transformer_blocks")
FRAMES = "makes several frames at once, of which it refines one"
MEAN_FLOW = (
    "predicts the mean flow between two noise levels (use_meanflow), which tells no clean image to be blurred"
)


def _layers(model: nn.Module) -> dict[str, bool]:
    """The layers that see the image; those that refine the text alone are none of its maps."""
    kinds = processed(*STACKS)(model)
    return {name: kind for name, kind in kinds.items() if name.partition(".")[0] in STACKS}


def _spans(call: ForwardPass) -> TokenSpans:
    """The second encoder's tokens come among the first's: both without padding, then the padding of both."""
    model: Any = call.model
    *frames, height, width = call.inputs["hidden_states"].shape[2:]
    grid = height // model.config.patch_size[-2], width // model.config.patch_size[-1]
    image = grid[0] * grid[1]
    text = call.inputs["encoder_hidden_states"].shape[1]
    second = call.inputs.get("encoder_hidden_states_2")
    if second is not None and model.context_embedder_2 is not None:
        text += second.shape[1]
    if frames and frames[0] != 1:
        image, grid = image * (frames[0] // model.config.patch_size[0]), None
    return TokenSpans(image + text, grid, slice(0, image), slice(image, image + text))


def _edit(sample: Float[Tensor, "b c *frame h w"], grid: Grid, edit: Edit) -> Float[Tensor, "b c *frame h w"]:
    """The refiner's latents are one frame."""
    return edit(sample) if sample.ndim == 4 else edit(sample.squeeze(2)).unsqueeze(2)


def _refused(denoiser: nn.Module, inputs: Inputs) -> str:
    model: Any = denoiser
    if model.config.use_meanflow:
        return MEAN_FLOW
    sample = inputs["hidden_states"]
    return FRAMES if sample.ndim == 5 and sample.shape[2] > 1 else ""


HUNYUAN_IMAGE = Family(
    models=("HunyuanImageTransformer2DModel",),
    tokens=Tokens(_spans, _layers),
    calling=Calling(prompt_first=True, edit=_edit, refused=_refused, renormalises=True),
)
FAMILIES = (HUNYUAN_IMAGE,)
