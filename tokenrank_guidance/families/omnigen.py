"""OmniGen: an instruction with pictures in it, the time, and last the image, whose tokens see all else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.families.calling import Calling, Habits, Inputs
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.tokens import (
    ForwardPass,
    Tokens,
    TokenSpans,
    middle_layer,
    patch_grid,
    processed,
)
from tokenrank_guidance.families.words import TextTokens, Words

PLACES, PICTURES = "input_image_sizes", "input_img_latents"
Places = dict[int, list[Any]]  # of a row's pictures in its instruction


def _layers(model: nn.Module) -> dict[str, bool]:
    """Its layers all count as cross-attention, and are given the tokens themselves for their text."""
    return dict.fromkeys(processed("layers")(model), True)


def _spans(call: ForwardPass) -> TokenSpans:
    """Shorter instructions of a batch are padded in front."""
    height, width = grid = patch_grid(call)
    words = call.inputs["input_ids"]
    text = 0 if words is None else words.shape[1]
    first = text + 1  # the time's token
    alone = text > 0 and not call.inputs[PLACES]
    image = slice(first, first + height * width)
    return TokenSpans(image.stop, grid, image, slice(0, text) if alone else None)


def _chosen(inputs: Inputs, rows: slice) -> Iterator[tuple[int, int]]:
    """The new and the old numbers of the rows that have pictures."""
    every = range(len(inputs["hidden_states"]))[rows]
    return ((new, old) for new, old in enumerate(every) if old in inputs[PLACES])


def _places(inputs: Inputs, rows: slice) -> Places:
    return {new: inputs[PLACES][old] for new, old in _chosen(inputs, rows)}


def _pictures(inputs: Inputs, rows: slice) -> list[Float[Tensor, "1 c h w"]]:
    """They come one after the other, row by row."""
    left = iter(inputs[PICTURES])
    of_rows = {row: [next(left) for _ in places] for row, places in inputs[PLACES].items()}
    return [picture for _, old in _chosen(inputs, rows) for picture in of_rows[old]]


def _words(pipe: Any) -> list[TextTokens]:
    """Of an instruction without pictures."""
    frame = pipe.multimodal_processor.add_prefix_instruction
    before = partial(_padding, pipe)
    return [TextTokens(pipe.tokenizer, pipe.tokenizer_max_length, frame=frame, options={}, before=before)]


def _padding(pipe: Any, caption: str) -> int:
    """In front, where the negative prompt that its processor has by default is longer."""
    processor = pipe.multimodal_processor
    unwanted = inspect.signature(type(processor).__call__).parameters["negative_prompt"].default
    framed = (processor.add_prefix_instruction(text) for text in (unwanted, caption))
    longer, own = (len(pipe.tokenizer(text).input_ids) for text in framed)
    return max(longer - own, 0)


OMNIGEN = Family(
    models=("OmniGenTransformer2DModel",),
    tokens=Tokens(_spans, _layers, middle_layer),
    # The prompt's part is first, and the part with pictures alone last.
    calling=Calling(unconditional=1, rows={PLACES: _places, PICTURES: _pictures}),
    words=Words(_words, joint=True, stacks=("layers",), sees_image=False),
    pipelines={"OmniGenPipeline": Habits(unconditional=1)},
)
FAMILIES = (OMNIGEN,)
