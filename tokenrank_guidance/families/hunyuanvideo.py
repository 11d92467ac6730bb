"""HunyuanVideo, Framepack and Motif: the video's tokens come first in one map with the text's."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, cast

from jaxtyping import Bool
from torch import Tensor, nn

from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.calling import POSITIONS, Calling, Habits, Inputs, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import longest_text
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans
from tokenrank_guidance.families.volume import (
    after_first_frame,
    before_text,
    first_frame,
    layers,
    volume_grid,
)
from tokenrank_guidance.families.words import TextTokens, Words, one_or_two, without_padding

LAYERS = layers("attn", "transformer_blocks", "single_transformer_blocks")
# Frames, rows and columns of latents in a token of what Framepack drew before, the longer ago the more.
HISTORY = {
    "latents_clean": (1, 2, 2),
    "latents_history_2x": (2, 4, 4),
    "latents_history_4x": (4, 8, 8),
}
TOGETHER = "its captions are read together with a picture, which moves their tokens"
WINDOWS = "it draws a video window by window, so that no map is of the whole video"
MEAN_FLOW = (
    "predicts the mean flow between two noise levels (use_meanflow), which tells no clean video to be blurred"
)


def _texts(call: ForwardPass) -> int:
    """The tokens of all encoders that there are; their padding is masked, and counted."""
    names = ("encoder_hidden_states", "encoder_hidden_states_2", "image_embeds")
    return sum(call.inputs[name].shape[1] for name in names if call.inputs.get(name) is not None)


def _spans(call: ForwardPass) -> TokenSpans:
    return before_text(volume_grid(call), _texts(call))


def _spans_after_history(call: ForwardPass) -> TokenSpans:
    """What was drawn before comes first. A single prompt's padding is cut off, by its mask."""
    mask, text = call.inputs["encoder_attention_mask"], _texts(call)
    if len(mask) == 1:
        text -= mask.shape[1] - int(mask.sum())  # read by the model too
    taken = [(call.inputs.get(name), patch) for name, patch in HISTORY.items()]
    history = sum(
        math.prod(-(-size // side) for size, side in zip(video.shape[2:], patch, strict=True))
        for video, patch in taken
        if video is not None
    )
    return before_text(volume_grid(call), text, history)


def _encoding_layers(model: nn.Module) -> dict[str, bool]:
    """Those whose keys are not, as in Motif's last layers, the video's once more."""
    found, network = LAYERS(model), cast("Any", model)
    decoding = network.config.num_decoder_layers if found else 0
    return dict.fromkeys([*found][: len(found) - decoding], True)


def _starts_with_picture(denoiser: Any) -> bool:
    """Whether the first frame's latents are the picture's own, without noise."""
    return denoiser.config.image_condition_type == "token_replace"


def _held(denoiser: nn.Module, inputs: Inputs) -> Bool[Tensor, "1 1 t 1 1"] | None:
    return first_frame(inputs) if _starts_with_picture(denoiser) else None


def _stepped(denoiser: nn.Module, inputs: Inputs, video: Tensor, given: Tensor) -> Tensor:
    return after_first_frame(video) if _starts_with_picture(denoiser) else video


def _mean_flow(denoiser: nn.Module, inputs: Inputs) -> str:
    return MEAN_FLOW if inputs.get("timestep_r") is not None else ""


def _llama(pipe: Any) -> list[TextTokens]:
    """After the first of the instructions, which are cut off; CLIP gives one pooled vector and no tokens."""
    if hasattr(pipe, "image_processor"):
        raise UnsupportedError(f"no word is found in {type(pipe).__name__}: {TOGETHER}")
    template = import_module(type(pipe).__module__).DEFAULT_PROMPT_TEMPLATE
    first, longest = template["crop_start"], longest_text(pipe)
    assert longest is not None

    def kept(mask: Sequence[int]) -> Sequence[int]:
        return range(first, len(mask))

    return [TextTokens(pipe.tokenizer, longest + first, frame=template["template"].format, kept=kept)]


def _gemma(pipe: Any) -> list[TextTokens]:
    """T5 Gemma's alone."""
    if "image" in inspect.signature(pipe.__call__).parameters:
        raise UnsupportedError(f"no word is found in {type(pipe).__name__}: {TOGETHER}")
    return one_or_two(pipe)


def _qwen(pipe: Any) -> list[TextTokens]:
    """In a conversation whose start is cut off, after the picture's tokens and those of quoted letters."""
    first = pipe.prompt_template_encode_start_idx

    def frame(caption: str) -> str:
        turns = [{"role": "system", "content": pipe.system_message}, {"role": "user", "content": caption}]
        return pipe.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def kept(mask: Sequence[int]) -> Sequence[int]:
        return [first + i for i in without_padding(mask[first:])]

    options = {"padding": "max_length", "add_special_tokens": False}
    limit = pipe.tokenizer_max_length + first
    before = partial(_letters_and_picture, pipe)
    return [TextTokens(pipe.tokenizer, limit, frame=frame, kept=kept, options=options, before=before)]


def _letters_and_picture(pipe: Any, caption: str) -> int:
    quoted = import_module(type(pipe).__module__).extract_glyph_texts(caption)
    seen = pipe.vision_num_semantic_tokens if hasattr(pipe, "image_encoder") else 0
    if quoted is None:
        return seen
    longest = pipe.tokenizer_2_max_length
    return seen + len(pipe.tokenizer_2(quoted, truncation=True, max_length=longest).input_ids)


CALLING = Calling(prompt_first=True, edit=edit_video)
INDICES = tuple(f"indices_latents{part}" for part in ("", "_clean", "_history_2x", "_history_4x"))
HUNYUAN_VIDEO = Family(
    models=("HunyuanVideoTransformer3DModel",),
    tokens=Tokens(_spans, LAYERS),
    calling=Calling(prompt_first=True, edit=edit_video, held=_held),
    pipelines={"HunyuanVideoImageToVideoPipeline": Habits(stepped=_stepped)},
    words=Words(_llama, joint=True),
)
HUNYUAN_VIDEO_15 = Family(
    models=("HunyuanVideo15Transformer3DModel",),
    tokens=Tokens(_spans, layers("attn", "transformer_blocks")),
    calling=Calling(prompt_first=True, edit=edit_video, refused=_mean_flow),
    words=Words(_qwen, joint=True),
)
FRAMEPACK = Family(
    models=("HunyuanVideoFramepackTransformer3DModel",),
    tokens=Tokens(_spans_after_history, LAYERS),
    calling=replace(CALLING, shared=(*POSITIONS, *INDICES)),
    wordless=WINDOWS,
)
MOTIF = Family(
    models=("MotifVideoTransformer3DModel",),
    tokens=Tokens(_spans, _encoding_layers),
    calling=CALLING,
    words=Words(_gemma, joint=True),
)
FAMILIES = (HUNYUAN_VIDEO, HUNYUAN_VIDEO_15, FRAMEPACK, MOTIF)
