"""Segments: DiffSeg's, and of words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from diffseg import DiffSeg, Segmentation, Settings, segment_records
from diffseg.passes.images import read_images
from diffseg.picture import colours
from diffseg.zero_shot import Generate, Options, WordSegmentation, heat_maps
from diffseg.zero_shot.result import NOTHING
from tokenrank_guidance.app.passes import Captured
from tokenrank_guidance.app.scene import Heat, Scene
from tokenrank_guidance.app.state import State
from tokenrank_guidance.app.watching import Watch
from tokenrank_guidance.drawing import edges
from tokenrank_guidance.messages import counted

SEGMENT_RESOLUTION, WORD_RESOLUTION = 256, 128  # √(pixels) at which the embedded models are read
DRAWS = 5  # of noise, where words are looked for in a given picture
LABEL_ALPHA = 150


def segmented(captured: Captured, state: State, watch: Watch) -> Segmentation:
    """DiffSeg of the picture; of a vision transformer's own attention."""
    opened, changes = captured.opened, segment_changes(captured, state)
    if opened.model is None:
        settings = Settings(**{name: value for name, value in changes.items() if name != "resolution"})
        records = [captured.records[0, layer] for layer in captured.layers]
        width, height = captured.picture.size
        return segment_records(records, (height, width), settings)[0]
    segmenter = DiffSeg.from_pipe(opened.pipe, **changes)
    with watch.over(opened.network, 1, "segmenting"):
        return segmenter(captured.picture)


def segment_changes(captured: Captured, state: State) -> dict[str, Any]:
    """The fields of `Settings` that are not as the default has them."""
    threshold = "auto" if state.threshold == "auto" else float(state.threshold)
    model = captured.opened.model
    resolution = SEGMENT_RESOLUTION if model is not None and model.embedded else None
    asked = {
        "anchors": state.anchors,
        "num_anchors": state.num_anchors,
        "kl_threshold": threshold,
        "resolution": resolution,
    }
    default = Settings()
    return {name: value for name, value in asked.items() if value != getattr(default, name)}


def show_segments(captured: Captured, state: State, watch: Watch) -> Scene:
    """Colours over the picture, with the anchors; TokenRank beneath."""
    found = segmented(captured, state, watch)
    count = len(found.labels.unique())
    thresholds = ", ".join(f"{value:.3g}" for value in dict.fromkeys(found.thresholds))
    scores = Heat.of("TokenRank", found.scores)
    return Scene(
        view=state.view,
        picture=captured.shown,
        title=counted(count, "segment"),
        facts=(
            f"{counted(len(found.anchors), 'anchor')}: {state.anchors}",
            f"merged at τ = {thresholds}" + (", found for this picture" if state.threshold == "auto" else ""),
        ),
        heats=(scores,),
        unit="N·π, mean 1",
        anchors=tuple((row, column) for row, column in found.anchors.tolist()),
        images={"segments": label_layer(found.labels.cpu().numpy(), len(found))},
        grid=found.grid,
        total=found.grid[0] * found.grid[1],
    )


def label_layer(labels: np.ndarray, count: int) -> Image.Image:
    """Half-transparent colours, white lines between; nothing where the label is −1."""
    palette = np.array([*colours(count), (0, 0, 0)], dtype=np.uint8)
    layer = np.zeros((*labels.shape, 4), np.uint8)
    layer[..., :3], layer[..., 3] = palette[labels], np.where(labels == NOTHING, 0, LABEL_ALPHA)
    layer[edges(labels)] = 255
    return Image.fromarray(layer)


def words_found(captured: Captured, state: State, watch: Watch) -> WordSegmentation:
    """The words' heat maps: over the steps of drawing, or of a given picture under its caption."""
    opened, source = captured.opened, captured.source
    options = word_options(captured, state)
    if not state.concepts:
        raise ValueError("words: got none, expected some such as 'church, sky'")
    pipe = opened.pipe
    target = word_request(captured) if source.drawn else read_images(captured.picture)[0][0]
    caption = source.caption or None
    calls = source.steps if source.drawn else DRAWS
    with watch.over(opened.network, calls, "reading words"):
        return heat_maps(pipe, target, state.concepts, [options], None if source.drawn else caption)[0]


def word_options(captured: Captured, state: State) -> Options:
    """How words are looked for: by the default walk, within the image."""
    model = captured.opened.model
    resolution = WORD_RESOLUTION if model is not None and model.embedded else None
    weights: Any = "mean" if state.heads == "mean" else "lambda2"
    return Options(n=state.n, head_weights=weights, resolution=resolution)


def word_request(captured: Captured) -> Generate:
    """The drawing, to be watched once more."""
    source, model = captured.source, captured.opened.model
    assert model is not None
    return Generate(source.prompt, source.steps, source.seed, model.cfg(source.cfg))


@torch.no_grad()
def show_words(captured: Captured, state: State, watch: Watch) -> Scene:
    """One map for each word, and its mask in the word's colour."""
    found = words_found(captured, state, watch)
    shares = found.masks.cpu().double().mean((1, 2)).tolist()
    heats = [
        Heat.of(word, heat, f"mask: {100 * share:.0f} % of the picture")
        for word, heat, share in zip(found.concepts, found.heats, shares, strict=True)
    ]
    hexes = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours(len(heats))]
    height, width = found.heats.shape[-2:]
    return Scene(
        view=state.view,
        picture=captured.shown,
        title="Segments from words",
        facts=(
            f"{counted(state.n, 'bounce')} within the image",
            "mean over the steps of drawing"
            if captured.source.drawn
            else f"{counted(DRAWS, 'draw')} of noise",
        ),
        heats=tuple(heats),
        unit="share of attention",
        images={"masks": label_layer(found.labels.cpu().numpy(), len(heats))},
        legend=tuple(zip(found.concepts, hexes, strict=True)),
        grid=(height, width),
        total=height * width,
    )
