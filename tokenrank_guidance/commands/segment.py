"""`tokenrank segment`: split an image into segments by a diffusion model's attention."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib.metadata import version
from pathlib import Path

import torch

from diffseg import DiffSeg, Segmentation
from diffseg.anchors import ANCHORS
from diffseg.label import VOTES
from diffseg.picture import colours, label_image, overlay
from diffseg.settings import PRESETS
from tokenrank_guidance.commands.messages import say
from tokenrank_guidance.commands.models import Model, open_model
from tokenrank_guidance.commands.options import add_model_arguments, at_least, finite, layer
from tokenrank_guidance.commands.output import RESULT, staged
from tokenrank_guidance.commands.report import PACKAGES, Json
from tokenrank_guidance.files.pictures import open_picture

OVERLAY, LABELS = "overlay.png", "labels.png"
EMBEDDED_RESOLUTION = 256  # at their 64 px the embedded models have 8×8 tokens, too few to see anything in
CHANGES = ("anchors", "num_anchors", "kl_threshold", "merges", "timestep", "refine", "damping", "seed")


def threshold(text: str) -> float | str:
    """A parser of "auto" and of positive numbers."""
    if text == "auto":
        return text
    value = finite(text)
    if value <= 0:
        raise ArgumentTypeError(f"expected a number > 0 or 'auto', got {text!r}")
    return value


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture of any size")
    add_model_arguments(parser)
    _add_segment_arguments(parser)
    group = parser.add_argument_group("names")
    group.add_argument("--caption", metavar="TEXT", help="name segments by this caption's words")
    group.add_argument("--nouns", nargs="+", metavar="WORD", help="by these of its words alone")
    group.add_argument("--vote", choices=VOTES, default="majority", help="default: %(default)s")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", type=Path, default=Path("segments"), metavar="DIR", help="default: %(default)s"
    )


def _add_segment_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("segments", "what is left out is as the preset has it")
    group.add_argument("--preset", choices=PRESETS, default="default", help="reference: DiffSeg as published")
    group.add_argument("--anchors", choices=ANCHORS, help="where merging starts")
    group.add_argument("--num-anchors", type=at_least(1), metavar="N")
    group.add_argument(
        "--kl-threshold", type=threshold, nargs="+", metavar="T", help="auto, one, or one for each merge"
    )
    group.add_argument("--merges", type=at_least(1), metavar="N")
    group.add_argument("--timestep", type=at_least(0), metavar="T", help="of 1000")
    group.add_argument("--add-noise", action="store_true", help="add the timestep's noise; DiffSeg adds none")
    group.add_argument("--refine", choices=("kmeans",))
    group.add_argument("--damping", type=finite, metavar="D", help="of TokenRank")
    group.add_argument("--layers", type=layer, nargs="+", metavar="LAYER", help="auto, all, names or indices")
    group.add_argument(
        "--resolution", type=at_least(1), metavar="PIXELS", help="√(pixels) worked at; the model's own"
    )
    group.add_argument("--seed", type=at_least(0), metavar="N", help="of noise and of sampled anchors")


def run(arguments: Namespace) -> Json:
    """Segment the image, write the overlay, the label map and the result to `--out`, return the result."""
    image = open_picture(arguments.image)
    with staged(arguments.out) as scratch:
        model = open_model(arguments)
        segmenter = DiffSeg.from_pipe(model.pipe, arguments.preset, **_changes(arguments, model))
        start = time.perf_counter()
        found = segmenter(image, caption=arguments.caption, nouns=arguments.nouns, vote=arguments.vote)
        seconds = time.perf_counter() - start
        label_image(found.labels).save(scratch / LABELS, "PNG", optimize=True)
        overlay(image, found, _caption(segmenter, model)).save(scratch / OVERLAY, "PNG", optimize=True)
        result = _report(arguments, segmenter, model, found) | {"seconds": round(seconds, 3)}
        (scratch / RESULT).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    say(f"picture: {arguments.out / OVERLAY}")
    return result


def _changes(arguments: Namespace, model: Model) -> Json:
    """The settings that were asked for."""
    changes = {name: getattr(arguments, name) for name in CHANGES if getattr(arguments, name) is not None}
    thresholds = changes.pop("kl_threshold", None)
    if thresholds is not None:
        changes["kl_threshold"] = thresholds[0] if len(thresholds) == 1 else tuple(thresholds)
    if arguments.layers is not None:
        changes["layers"] = arguments.layers[0] if len(arguments.layers) == 1 else tuple(arguments.layers)
    resolution = arguments.resolution or (EMBEDDED_RESOLUTION if model.embedded else None)
    return changes | {"resolution": resolution, "add_noise": arguments.add_noise}


def _caption(segmenter: DiffSeg, model: Model) -> str:
    settings = segmenter.settings
    noise = "with its noise" if settings.add_noise else "no noise added"
    return f"{model.name}, one pass at timestep {settings.timestep}, {noise}; anchors: {settings.anchors}."


def _report(arguments: Namespace, segmenter: DiffSeg, model: Model, found: Segmentation) -> Json:
    settings = {
        name: str(value) if isinstance(value, torch.dtype) else value
        for name, value in vars(segmenter.settings).items()
    }
    names = ("scheduler", "dtype", "preset", "caption", "nouns", "vote")
    asked = {name: getattr(arguments, name) for name in names}
    height, width = found.labels.shape
    return {
        "command": arguments.command,
        "config": {
            "image": str(arguments.image),
            "out": str(arguments.out),
            "model": model.name,
            "device": str(model.pipe.device),
            **asked,
            "settings": settings,
        },
        "seed": segmenter.settings.seed,
        "n": 1,
        "versions": {name: version(name) for name in PACKAGES},
        "width": width,
        "height": height,
        "grid": list(found.grid),
        "thresholds": list(found.thresholds),
        "anchors": found.anchors.tolist(),
        "segments": _segments(found),
        "files": [str(arguments.out / name) for name in (OVERLAY, LABELS)],
    }


def _segments(found: Segmentation) -> list[Json]:
    """The segments that have pixels, by their index in the label map."""
    pixels = found.labels.flatten().bincount(minlength=len(found)).tolist()
    names = found.names or (None,) * len(found)
    table = zip(pixels, names, colours(len(found)), strict=True)
    return [
        {"label": label, "name": name, "pixels": count, "colour": list(colour)}
        for label, (count, name, colour) in enumerate(table)
        if count
    ]
