"""Zero-shot segmentation by words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffseg.passes.images import Rgb, read_images
from diffseg.words import caption_of, check_words, word_tokens
from diffseg.zero_shot.collect import Collector, Reading
from diffseg.zero_shot.concept_attention import ConceptAttention
from diffseg.zero_shot.joint import JointWalks, OneChainWalks, Rollout
from diffseg.zero_shot.layers import chain_layers, check_drawing, check_family, concept_layers, is_joint
from diffseg.zero_shot.options import Options, leads_out, make_options
from diffseg.zero_shot.passes import Drawn, Generate, drawing_passes, image_passes
from diffseg.zero_shot.result import WordSegmentation
from diffseg.zero_shot.unet import UnetWalks
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import words_of

WITHOUT_CAPTION = "concept-attention"  # its concepts need not be in the prompt
SHARED = ("timesteps", "draws", "seed", "resolution")


def segment(
    pipe: Any,
    images: Any,
    concepts: Sequence[str],
    caption: str | Sequence[str] | None = None,
    **changes: Any,
) -> Any:
    """Heat maps, masks and labels of words that need no training: a `WordSegmentation` for each image.

        segment(pipe, image, ["church", "sky"], n=2).masks[0]
        segment(pipe, Generate("a photo of a church", steps=24), ["church"], method="row").heats

    `images` is one image or a list (see `read_images`), of any sizes, or a `Generate`. A given image is
    encoded, noised and passed through the denoiser under `caption` (one, or one for each image), by default
    "a church, a sky"; a generated one is read at every step under its prompt, without the unconditional pass.
    A pipeline that draws videos, whose frames share a map with the text, is read in the same way.
    The chain runs over text and image tokens: v ← v P from the tokens of a concept, all of its places. In a
    UNet, whose text is in no self-attention, cross-attention is the start and self-attention bounces it: an
    analogue. `changes` are fields of `Options`, by keyword.

    ValueError for unknown options, no concept, a concept that is not in the caption or beyond the model's
    token limit; UnsupportedError for a pipeline without text, and a method that it has no attention for.
    Source: arXiv 2507.17657 (bounce); the baselines are named in their modules.
    """
    options = make_options(changes)
    if isinstance(images, Generate):
        if caption is not None:
            raise ValueError("caption: a generated image is read under its own prompt; leave caption out")
        return heat_maps(pipe, images, concepts, [options])[0]
    read, single = read_images(images)
    captions = _captions(caption, len(read))
    results = [
        heat_maps(pipe, image, concepts, [options], own)[0] for image, own in zip(read, captions, strict=True)
    ]
    return results[0] if single else results


def heat_maps(
    pipe: Any,
    image: Rgb | Generate,
    concepts: Sequence[str],
    options: Sequence[Options],
    caption: str | None = None,
) -> list[WordSegmentation]:
    """One image by several methods from the same passes, in the order of `options`; see `segment`.

    Raises ValueError where they ask for different passes.
    """
    reading, text = _prepared(pipe, image, concepts, options, caption)
    pairs = _collectors(reading, options)
    collectors = [collector for collector, _ in pairs]
    if isinstance(image, Generate):
        sums, drawn = drawing_passes(reading, collectors, image)
    else:
        sums, drawn = image_passes(reading, collectors, image, text), Drawn((image.shape[1], image.shape[2]))
    order = [i for _, own in pairs for i in own]
    found = dict(zip(order, sums.means(), strict=True))
    return [
        WordSegmentation(reading.concepts, found[i], drawn.size, drawn.image, drawn.frames)
        for i in range(len(order))
    ]


def _prepared(
    pipe: Any, image: Rgb | Generate, concepts: Sequence[str], options: Sequence[Options], caption: str | None
) -> tuple[Reading, str]:
    """Check what was asked for, before anything runs; also returns the caption."""
    words_of(pipe)
    check = check_drawing if isinstance(image, Generate) else check_family
    check(pipe)
    words = check_words("concepts", concepts)
    for name in SHARED:
        if len({getattr(option, name) for option in options}) != 1:
            raise ValueError(f"{name}: methods that share passes need the same, got different ones")
    asked = image.prompt if isinstance(image, Generate) else caption
    text = caption_of(words) if asked is None else asked
    if is_joint(pipe) and not words_of(pipe).sees_image and any(map(leads_out, options)):
        raise UnsupportedError(
            f"the text of {type(pipe).__name__} attends to none of the image, where no walk along attention "
            "leads then; expected one to who attends to the word: image-bounce, column, absorbing, or bounce "
            "with direction='incoming'"
        )
    chained = any(option.method != WITHOUT_CAPTION for option in options)
    return Reading(pipe, words, word_tokens(pipe, text, words) if chained else None), text


def _collectors(reading: Reading, options: Sequence[Options]) -> list[tuple[Collector, list[int]]]:
    """One collector for all walks of the same layers, one for each rollout and ConceptAttention."""
    collectors: list[tuple[Collector, list[int]]] = []
    shared: dict[tuple[object, ...], list[int]] = {}
    joint = is_joint(reading.pipe)
    for i, option in enumerate(options):
        if option.method == "concept-attention":
            collectors.append((ConceptAttention(reading, concept_layers(reading.pipe, option), option), [i]))
        elif option.method == "rollout" and joint:
            collectors.append((Rollout(reading, chain_layers(reading.pipe, option), option), [i]))
        elif option.method == "daam" and joint:
            raise UnsupportedError(
                f"daam reads cross-attention, which {type(reading.pipe).__name__} lacks; column is alike"
            )
        else:
            key = (
                chain_layers(reading.pipe, option),
                option.mix == "chain",
                option.memory,
                option.lambda2_tol,
            )
            shared.setdefault(key, []).append(i)
    for (layers, one_chain, *_), own in shared.items():
        names: Any = layers
        walks = UnetWalks if not joint else OneChainWalks if one_chain else JointWalks
        collectors.append((walks(reading, names, [options[i] for i in own]), own))
    return collectors


def _captions(caption: str | Sequence[str] | None, count: int) -> list[str | None]:
    if caption is None or isinstance(caption, str):
        return [caption] * count
    if len(caption) != count:
        raise ValueError(f"caption: got {len(caption)} for {count} images")
    return list(caption)
