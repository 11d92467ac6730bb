"""`tokenrank segment`: split an image into segments by a diffusion model's attention."""

from __future__ import annotations

import time
from argparse import Namespace

import torch

from diffseg import DiffSeg, Segmentation
from diffseg.choices import VOTES
from diffseg.picture import colours, label_image, overlay
from tokenrank_guidance.files.pictures import open_picture
from tokenrank_guidance.files.writing import staged, write_result
from tokenrank_guidance.messages import say
from tokenrank_guidance.pipelines import Model, open_model
from tokenrank_guidance.report import Json, versions

OVERLAY, LABELS = "overlay.png", "labels.png"
EMBEDDED_RESOLUTION = 256  # twice the embedded models' own size
CHANGES = ("anchors", "num_anchors", "kl_threshold", "merges", "timestep", "refine", "damping", "seed")


def run(arguments: Namespace) -> Json:
    """Segment the image, write the overlay, the label map and the result to `--out`, return the result."""
    image = open_picture(arguments.image)
    with staged(arguments.out) as scratch:
        model = open_model(arguments)
        segmenter = DiffSeg.from_pipe(model.pipe, arguments.preset, **_changes(arguments, model))
        start = time.perf_counter()
        vote = arguments.vote or VOTES[0]
        segmentation = segmenter(image, caption=arguments.caption, nouns=arguments.nouns, vote=vote)
        seconds = time.perf_counter() - start
        label_image(segmentation.labels).save(scratch / LABELS, "PNG", optimize=True)
        overlay(image, segmentation, _caption(segmenter, model)).save(scratch / OVERLAY, "PNG", optimize=True)
        result = _report(arguments, segmenter, model, segmentation) | {"seconds": round(seconds, 3)}
        write_result(scratch, result)
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


def _report(arguments: Namespace, segmenter: DiffSeg, model: Model, result: Segmentation) -> Json:
    settings = {
        name: str(value) if isinstance(value, torch.dtype) else value
        for name, value in vars(segmenter.settings).items()
    }
    names = ("dtype", "preset", "caption", "nouns", "vote")
    asked = {name: getattr(arguments, name) for name in names}
    height, width = result.labels.shape
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
        "versions": versions(),
        "width": width,
        "height": height,
        "grid": list(result.grid),
        "thresholds": list(result.thresholds),
        "anchors": result.anchors.tolist(),
        "segments": _segments(result),
        "files": [str(arguments.out / name) for name in (OVERLAY, LABELS)],
    }


def _segments(result: Segmentation) -> list[Json]:
    """The segments that have pixels, by their index in the label map."""
    pixels = result.labels.flatten().bincount(minlength=len(result)).tolist()
    names = result.names or (None,) * len(result)
    table = zip(pixels, names, colours(len(result)), strict=True)
    return [
        {"label": label, "name": name, "pixels": count, "colour": list(colour)}
        for label, (count, name, colour) in enumerate(table)
        if count
    ]
