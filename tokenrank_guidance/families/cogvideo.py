"""CogVideoX and EasyAnimate: the text's tokens come first in one map with the video's."""

from __future__ import annotations

from typing import Any

from tokenrank_guidance.families.calling import Calling, Habits, edit_frames, edit_video
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import longest_text
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans
from tokenrank_guidance.families.volume import after_text, layers, patch_of, volume_grid
from tokenrank_guidance.families.words import TextTokens, Words, one_or_two, text_tokens


def _spans(call: ForwardPass) -> TokenSpans:
    frames, _, height, width = call.inputs["hidden_states"].shape[1:]
    patch = patch_of(call.model)
    grid = (-(-frames // patch[0]), height // patch[1], width // patch[2])
    return after_text(grid, call.inputs["encoder_hidden_states"].shape[1])


def _spans_of_two_texts(call: ForwardPass) -> TokenSpans:
    texts = (call.inputs.get(name) for name in ("encoder_hidden_states", "encoder_hidden_states_t5"))
    return after_text(volume_grid(call), sum(text.shape[1] for text in texts if text is not None))


def _conversation(pipe: Any) -> list[TextTokens]:
    """All of a chat template comes into the text, and the padding behind it."""

    def frame(caption: str) -> str:
        turn = {"role": "user", "content": [{"type": "text", "text": caption}]}
        return pipe.tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)

    options = {"padding": "max_length", "padding_side": "right"}
    return [text_tokens(pipe.tokenizer, longest_text(pipe), frame=frame, options=options)]


BROKEN = (
    "it does not run in diffusers 0.42: it calls its encode_prompt with an argument that this does not have"
)

COGVIDEO = Family(
    models=("CogVideoXTransformer3DModel", "ConsisIDTransformer3DModel"),
    tokens=Tokens(_spans, layers("attn1", "transformer_blocks")),
    calling=Calling(channel_axis=2, edit=edit_frames),  # channels come after frames
    words=Words(one_or_two, joint=True),
)
EASYANIMATE = Family(
    models=("EasyAnimateTransformer3DModel",),
    tokens=Tokens(_spans_of_two_texts, layers("attn1", "transformer_blocks")),
    calling=Calling(edit=edit_video),
    pipelines={
        "EasyAnimatePipeline": Habits(negative=""),
        "EasyAnimateControlPipeline": Habits(refused=BROKEN),
    },
    words=Words(_conversation, joint=True),
)
FAMILIES = (COGVIDEO, EASYANIMATE)
