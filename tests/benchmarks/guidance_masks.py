"""What guidance looks at and what it changes: `python -m tests.benchmarks.guidance_masks` prints JSON.

Along one sampling run guided by TokenRank, at each step the masks of the other scorers on the same attention:
the share of tokens above the threshold, the overlap (IoU) with SAG's mask, and Spearman's rank correlation of
the scores with SAG's. Then how far each guidance takes the images: contrast (standard deviation of pixels in
[0, 1]) and sharpness (mean absolute Laplacian of the grey image), beside the same of `--reference` images.
95 % intervals by the bootstrap over images. `--picture` shows the first model's images in rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image, ImageOps
from scipy.stats import rankdata
from torch import Tensor
from tqdm import tqdm

from eval.data import open_images
from eval.metrics.interval import Interval, bootstrap_mean, paired_difference
from eval.report import save_figure
from sag import SelfAttentionGuidance
from sag.scorers import ColumnSumScorer, TokenRankScorer
from tokenrank_guidance.calls import Sampling, call_arguments, jobs_for
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.tiny.loader import available_models, load_pipeline
from tokenrank_guidance.tiny.tokenizer import LABELS

Scorer = Callable[[AttentionRecord], Tensor]
SCORERS: dict[str, Scorer] = {
    "sag": ColumnSumScorer(),
    "tokenrank": TokenRankScorer(),
    "tokenrank:heads=lambda2": TokenRankScorer(head_weights="lambda2"),
    "tokenrank:direction=incoming": TokenRankScorer(direction="incoming"),
}
PLAIN = "no guidance"
ARMS = {
    PLAIN: SelfAttentionGuidance(sag_scale=0),
    "TokenRank, contrast kept,\nscale 1.5, stop 0.5": SelfAttentionGuidance(
        sag_scale=1.5, stop=0.5, keep_contrast=1.0
    ),
    "TokenRank, contrast kept": SelfAttentionGuidance(keep_contrast=1.0),
    "TokenRank": SelfAttentionGuidance(keep_contrast=0.0),
    "SAG": SelfAttentionGuidance(scorer="sag", keep_contrast=0.0),
    "TokenRank, scale 1.5": SelfAttentionGuidance(sag_scale=1.5, keep_contrast=0.0),
    "every token blurred": SelfAttentionGuidance(threshold=-1, keep_contrast=0.0),
}


class Watching:
    """TokenRank's scorer, which keeps every scorer's scores of each step as (scorer, image, token)."""

    def __init__(self) -> None:
        self.steps: list[np.ndarray] = []

    def __call__(self, record: AttentionRecord) -> Tensor:
        scores = {name: scorer(record) for name, scorer in SCORERS.items()}
        self.steps.append(torch.stack(list(scores.values())).float().numpy())
        return scores["tokenrank"]


def agreement(scores: np.ndarray, threshold: float = 1.0) -> dict[str, Any]:
    """Of scores shaped (step, scorer, image, token): share masked, overlap and rank correlation with SAG."""
    masks, ranks = scores > threshold, rankdata(scores, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    norms = np.sqrt(np.square(ranks).sum(-1))
    rows = {}
    for i, name in enumerate(SCORERS):
        both, either = (masks[:, i] & masks[:, 0]).sum(-1), (masks[:, i] | masks[:, 0]).sum(-1)
        correlation = (ranks[:, i] * ranks[:, 0]).sum(-1) / (norms[:, i] * norms[:, 0])
        rows[name] = {
            "share": json_of(masks[:, i].mean((0, 2))),
            "overlap_with_sag": json_of((both / np.maximum(either, 1)).mean(0)),
            "rank_correlation_with_sag": json_of(correlation.mean(0)),
        }
    return rows


def json_of(values: np.ndarray) -> dict[str, Any]:
    return bootstrap_mean(values).to_json()


def contrast(images: np.ndarray) -> np.ndarray:
    return images.std(axis=(1, 2, 3))


def sharpness(images: np.ndarray) -> np.ndarray:
    grey = images.mean(-1)
    middle = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return np.abs(around - 4 * middle).mean((1, 2))


STATISTICS = {"contrast": contrast, "sharpness": sharpness}


def draw(pipe: Any, guidance: SelfAttentionGuidance, options: argparse.Namespace) -> np.ndarray:
    prompts = [f"a photo of a {label}" for label in LABELS]
    jobs = jobs_for(pipe, prompts, options.images // len(prompts), options.seed)
    drawn = []
    for first in range(0, len(jobs), options.batch):
        some = jobs[first : first + options.batch]
        arguments = call_arguments(pipe, Sampling(options.steps, options.cfg), some)
        with guidance(pipe):
            drawn.append(pipe(**arguments, output_type="np").images)
    return np.concatenate(drawn)


def masks(pipe: Any, options: argparse.Namespace) -> dict[str, Any]:
    watching = Watching()
    drawn = draw(pipe, SelfAttentionGuidance(scorer=watching), options)
    steps = [
        np.concatenate(watching.steps[step :: options.steps], axis=1)  # each batch has all steps
        for step in range(options.steps)
    ]
    assert len(drawn) == steps[0].shape[1]
    return agreement(np.stack(steps))


def changes(images: dict[str, np.ndarray], options: argparse.Namespace) -> dict[str, Any]:
    side = images[PLAIN].shape[1]
    rows: dict[str, Any] = {}
    for name, drawn in images.items():
        measured = {key: (one(drawn), one(images[PLAIN])) for key, one in STATISTICS.items()}
        rows[name.replace("\n", " ")] = {key: of(*pair) for key, pair in measured.items()}
    if options.reference:
        source = open_images(options.reference)
        chosen = [source[i].image for i in range(0, len(source), options.stride)]
        squares = [ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC) for image in chosen]
        real = np.stack([np.asarray(image) / 255 for image in squares])
        rows["real images"] = {key: {"mean": json_of(one(real))} for key, one in STATISTICS.items()}
    return rows


def of(values: np.ndarray, plain: np.ndarray) -> dict[str, Any]:
    less: Interval = paired_difference(values, plain)
    return {"mean": json_of(values), "less_none": less.to_json()}


def picture(images: dict[str, np.ndarray], columns: int = 12) -> Figure:
    """A row for each guidance, a column for each of `columns` images, evenly chosen."""
    chosen = np.linspace(0, len(images[PLAIN]) - 1, columns).round().astype(int)
    tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    figure = Figure((0.6 * columns + 1.1, 0.61 * len(images)), layout=tight)
    panels = figure.subplots(len(images), columns, squeeze=False)
    for row, (name, drawn) in zip(panels, images.items(), strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=6.5)
        for panel, index in zip(row, chosen, strict=True):
            panel.imshow(drawn[index], interpolation="lanczos")
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=available_models())
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", help="real images, cropped to squares of the drawn ones' size")
    parser.add_argument("--stride", type=int, default=20, help="of the reference, every so many")
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name in options.models:
        pipe = load_pipeline(name)
        pipe.set_progress_bar_config(disable=True)
        images = {arm: draw(pipe, guidance, options) for arm, guidance in tqdm(ARMS.items(), file=sys.stderr)}
        results[name] = {"masks": masks(pipe, options), "images": changes(images, options)}
        if options.picture and len(results) == 1:
            save_figure(picture(images), options.picture)
            Image.open(options.picture).convert("RGB").quantize(256).save(options.picture, optimize=True)
    config = vars(options) | {"picture": str(options.picture)}
    json.dump({"results": results, "config": config, "torch": torch.__version__}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
