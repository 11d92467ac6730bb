"""`tokenrank explain` of a video: a strip of its frames, and what their tokens are worth over each."""

from __future__ import annotations

import inspect
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from tokenrank_guidance.calls import GIVEN, LENGTHS, finite_pictures, length_of
from tokenrank_guidance.cli.explain_options import OF_WORDS, STEPS
from tokenrank_guidance.cli.explain_strip import ENDS, GAP, HEADER, LINE, MARGIN, cell_of
from tokenrank_guidance.drawing import GREY, INK, fitted, font, heat
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.pipelines import Model
from tokenrank_guidance.report import Json, versions
from tokenrank_guidance.videos import RankedVideo, rank_video

STRIP = "explain.png"
MOST = 16  # frames in a row
LEAST_WIDTH = 640  # what the line below takes
OVER = 0.6  # of a frame's pixels are the map's


def draws_videos(pipe: Any) -> bool:
    """Whether the pipeline's call asks for a number of frames, or for a video."""
    return bool({*LENGTHS, "video"} & _taken(pipe))


def explain_video(arguments: Namespace, model: Model, folder: Path) -> Json:
    """Draw the video, write the strip to `folder`, return the result.

    Raises ValueError for options of words and pictures, UnsupportedError for a pipeline that draws from more
    than a prompt.
    """
    call = _call(arguments, model)
    start = time.perf_counter()
    weights = arguments.head_weights or "mean"
    layers = "auto" if arguments.layers is None else arguments.layers
    with finite_pictures(model.pipe):
        video = rank_video(model.pipe, call, layers=layers, head_weights=weights)
    drawn = f"{model.name}, drawn under {arguments.prompt!r}"
    text = f"{drawn}; below, N·π of its tokens (mean 1), the mean over {call['num_inference_steps']} steps."
    frame_strip(video, text).save(folder / STRIP, "PNG", optimize=True)
    seconds = time.perf_counter() - start
    return _report(arguments, model, video) | {"seconds": round(seconds, 3)}


def frame_strip(video: RankedVideo, text: str) -> Image.Image:
    """A frame for each of the latents', and N·π over it, black to yellow in one scale for all."""
    chosen = spread(len(video.scores))
    cell = cell_of(video.frames[0].size)
    step = max(cell[0], 96) + GAP
    height = HEADER + 2 * (cell[1] + GAP) + LINE
    width = max(LEAST_WIDTH, 2 * MARGIN + len(chosen) * step - GAP)
    canvas = Image.new("RGB", (width, height), "white")
    draw, shown = ImageDraw.Draw(canvas), video.shown()
    values = scaled(video.scores)
    for place, i in enumerate(chosen):
        left, frame = MARGIN + place * step, fitted(shown[i], cell)
        draw.text((left, 8), f"frame {i}", INK, font(12, "bold"))
        draw.text((left, 24), f"mean {video.scores[i].mean():.2f}", GREY, font(10))
        canvas.paste(frame, (left, HEADER))
        canvas.paste(blended(frame, values[i]), (left, HEADER + cell[1] + GAP))
    draw.text((MARGIN, height - LINE), text, GREY, font(11))
    return canvas


def spread(count: int) -> list[int]:
    """At most `MOST` of so many frames, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, MOST).round().astype(int)).tolist()


def blended(frame: Image.Image, values: Float[np.ndarray, "h w"]) -> Image.Image:
    """A map on the grid of tokens over its frame, smoothly enlarged."""
    smooth = Image.fromarray(values).resize(frame.size, Image.Resampling.BILINEAR)
    return Image.blend(frame, heat(np.asarray(smooth), frame.size), OVER)


def scaled(scores: Float[Tensor, "t h w"]) -> Float[np.ndarray, "t h w"]:
    """One scale for all frames: its quantiles `ENDS` are 0 and 1."""
    values = scores.float().numpy()
    low, high = np.quantile(values, ENDS).astype(np.float32)
    return (values - low) / max(high - low, np.float32(1e-12))


def _taken(pipe: Any) -> set[str]:
    return set(inspect.signature(pipe.__call__).parameters)


def _call(arguments: Namespace, model: Model) -> dict[str, Any]:
    """What to call the pipeline with."""
    name, taken = type(model.pipe).__name__, _taken(model.pipe)
    refuse_without_effect(arguments, OF_WORDS, "without --concepts a video's tokens are ranked")
    given = [one for one in GIVEN if one in taken]
    if given:
        raise UnsupportedError(
            f"{name} draws from more than a prompt ({', '.join(given)}): call it in Python, with "
            "tokenrank_guidance.videos.rank_video(pipe, arguments)"
        )
    asked = {
        "guidance_scale": arguments.cfg,
        "negative_prompt": arguments.negative_prompt,
        "height": arguments.height,
        "width": arguments.width,
        length_of(model.pipe) or LENGTHS[0]: arguments.frames,
    }
    asked = {key: value for key, value in asked.items() if value is not None}
    unknown = ", ".join(sorted(set(asked) - taken))
    if unknown:
        raise UnsupportedError(f"{name} does not take {unknown}")
    generator = torch.Generator().manual_seed(arguments.seed or 0)
    drawn = {"prompt": arguments.prompt, "generator": generator, "output_type": "pil"}
    return drawn | {"num_inference_steps": arguments.steps or STEPS} | asked


def _report(arguments: Namespace, model: Model, video: RankedVideo) -> Json:
    config = {name: value for name, value in vars(arguments).items() if name != "command"}
    paths = {"out": str(arguments.out), "model": model.name, "device": str(model.pipe.device)}
    width, height = video.frames[0].size
    return {
        "command": arguments.command,
        "config": config | paths,
        "seed": arguments.seed or 0,
        "n": 1,
        "versions": versions(),
        "width": width,
        "height": height,
        "grid": list(video.scores.shape),
        "frames": [
            {"mean": score.mean().item(), "share": (score > 1).float().mean().item()}
            for score in video.scores
        ],
        "files": [str(arguments.out / STRIP)],
    }
