"""Which layers are read where nothing else is asked for."""

from __future__ import annotations

from typing import Any

from diffseg.passes.checks import check_parts, check_pipeline
from diffseg.zero_shot.options import Layers, Options
from tokenrank_guidance.capture.layers import choose_layers
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import reads_text, takes_pictures, tokens_of, words_of


def is_joint(pipe: Any) -> bool:
    """Whether image and text share one map."""
    return words_of(pipe).joint


def check_family(pipe: Any) -> None:
    """Raise UnsupportedError where no picture is put into a pipeline, or no method starts at its words."""
    if reads_text(pipe) and not takes_pictures(pipe):
        raise UnsupportedError(
            f"cannot segment with {type(denoiser_of(pipe)).__name__}: how a picture is put into it is not "
            f"known here; segment what {type(pipe).__name__} draws, with Generate(prompt)"
        )
    check_pipeline(pipe)
    _check_walks(pipe)


def check_drawing(pipe: Any) -> None:
    """The same where the pipeline draws what is read, such as a video: nothing is put into it."""
    check = check_pipeline if takes_pictures(pipe) else check_parts
    check(pipe)
    _check_walks(pipe)


def _check_walks(pipe: Any) -> None:
    if not reads_text(pipe) or not words_of(pipe).walks:
        raise UnsupportedError(
            f"{type(pipe).__name__} cannot be segmented by words; those can that have text and image in one "
            "map (FLUX, SD3, Qwen-Image and others), and UNets"
        )


def chain_layers(pipe: Any, options: Options) -> tuple[str, ...]:
    """The layers of the chain.

    By default those of the authors' FLUX demo, by share of the depth: the last half of the double blocks (9
    to 18 of 19) and the last quarter of the single ones (28 to 37 of 38); where all blocks are alike, their
    last half. Rollout: all. UNets: every self-attention layer.
    """
    if options.layers != "auto":
        return chosen(pipe, options.layers)
    names = [name for name in chosen(pipe, "all") if not name.endswith(".attn2") or not is_joint(pipe)]
    if options.method == "rollout" or not is_joint(pipe):
        return tuple(names)
    first, *others = ([n for n in names if n.startswith(f"{one}.")] for one in words_of(pipe).stacks)
    return (*first[len(first) // 2 :], *(n for own in others for n in own[len(own) * 3 // 4 :]))


def concept_layers(pipe: Any, options: Options) -> tuple[str, ...]:
    """ConceptAttention's: double blocks alone, by default 14 to 17 of 19, by share of the depth."""
    double = [name for name in chosen(pipe, "all") if _is_double(name)]
    if options.layers == "auto":
        first = round(len(double) * 14 / 19)
        return tuple(double[first : max(first + 1, len(double) - 1)])
    if options.layers == "all":
        return tuple(double)
    names = chosen(pipe, options.layers)
    others = [name for name in names if name not in double]
    if others:
        raise UnsupportedError(f"concept-attention reads double blocks alone, not {', '.join(others)}")
    return names


def chosen(pipe: Any, layers: Layers) -> tuple[str, ...]:
    """The names of the layers, as `capture` chooses them."""
    model = denoiser_of(pipe)
    return choose_layers(model, tokens_of(model), layers)


def _is_double(name: str) -> bool:
    return name.startswith("transformer_blocks.") and name.endswith(".attn")
