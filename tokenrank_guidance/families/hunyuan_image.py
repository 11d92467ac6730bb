"""HunyuanImage 2.1 and its refiner: image tokens first, then those of one or two text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.components import config_of
from tokenrank_guidance.families.calling import Calling, Edit, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs as Given
from tokenrank_guidance.families.picture import Picture, PicturePass
from tokenrank_guidance.families.tokens import ForwardPass, Grid, Tokens, TokenSpans, processed
from tokenrank_guidance.families.words import TextTokens, Words, without_padding

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


def _inputs(call: PicturePass) -> Given:
    """Guidance-distilled models at guidance 1; between a noise level and none where it predicts mean flow."""
    pipe, config = call.pipe, config_of(call.pipe)
    text, mask, second, second_mask = pipe.encode_prompt(call.caption, device=call.device)
    return {
        "hidden_states": call.latents,
        "timestep": call.times(),
        "timestep_r": 0 * call.times() if config["use_meanflow"] else None,
        "guidance": call.numbers(1000.0)[0] if config["guidance_embeds"] else None,
        "encoder_hidden_states": text,
        "encoder_attention_mask": mask,
        "encoder_hidden_states_2": second,
        "encoder_attention_mask_2": second_mask,
    }


def _words(pipe: Any) -> list[TextTokens]:
    """The caption's, after ByT5's of what stands in quotes: these are of how letters look."""
    first = pipe.prompt_template_encode_start_idx

    def kept(mask: Sequence[int]) -> Sequence[int]:
        return [first + i for i in without_padding(mask[first:])]

    frame, limit = pipe.prompt_template_encode.format, pipe.tokenizer_max_length + first
    return [TextTokens(pipe.tokenizer, limit, frame=frame, kept=kept, before=partial(_letters, pipe))]


def _letters(pipe: Any, caption: str) -> int:
    """How many tokens ByT5 makes of what stands in quotes."""
    from diffusers.pipelines.hunyuan_image.pipeline_hunyuanimage import extract_glyph_text

    quoted = extract_glyph_text(caption)
    if quoted is None or config_of(pipe)["text_embed_2_dim"] is None:
        return 0
    longest = pipe.tokenizer_2_max_length
    return len(pipe.tokenizer_2(quoted, truncation=True, max_length=longest).input_ids)


HUNYUAN_IMAGE = Family(
    models=("HunyuanImageTransformer2DModel",),
    tokens=Tokens(_spans, _layers),
    calling=Calling(prompt_first=True, edit=_edit, refused=_refused, renormalises=True),
    picture=Picture(_inputs),
    words=Words(_words, joint=True),
)
FAMILIES = (HUNYUAN_IMAGE,)
