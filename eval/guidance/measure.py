"""What is measured of each drawn image: masks of its attention, and what guidance did to its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy.stats import rankdata
from torch import Tensor

from eval.generate.arms import parse_arm
from eval.schema import OfArms
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.report import Json

SCORERS = {  # as arms are written; the first is what the others are compared with
    text: parse_arm(text).guidance().score
    for text in ("sag", "tokenrank", "tokenrank:heads=lambda2", "tokenrank:direction=incoming")
}
TINY = 1e-12  # scores that are all equal correlate with nothing


class Measured(OfArms):
    """A drawn image in the journal: contrast and sharpness under each arm, and every scorer's mask."""

    arms: dict[str, dict[str, float]]
    masks: dict[str, dict[str, float]]


class Watching:
    """TokenRank's scorer, which keeps the scores of all `SCORERS` at each step as (scorer, image, token)."""

    def __init__(self) -> None:
        self.steps: list[Float[np.ndarray, "scorer image token"]] = []

    def __call__(self, record: AttentionRecord) -> Float[Tensor, "batch tokens"]:
        scores = {name: scorer(record) for name, scorer in SCORERS.items()}
        self.steps.append(torch.stack(list(scores.values())).float().cpu().numpy())
        return scores["tokenrank"]


def agreement(scores: Float[np.ndarray, "step scorer image token"], threshold: float = 1.0) -> list[Json]:
    """Of each image and scorer, as means over steps: `share` of tokens whose score is above the threshold,
    `overlap` |A ∩ B| / |A ∪ B| of these with SAG's, and Spearman's rank `correlation` with SAG's scores.
    """
    masks, ranks = scores > threshold, rankdata(scores, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    norms = np.sqrt(np.square(ranks).sum(-1))
    first = slice(0, 1)
    either = np.maximum((masks | masks[:, first]).sum(-1), 1)
    together = (ranks * ranks[:, first]).sum(-1) / np.maximum(norms * norms[:, first], TINY)
    found = {
        "share": masks.mean((0, -1)),
        "overlap": ((masks & masks[:, first]).sum(-1) / either).mean(0),
        "correlation": together.mean(0),
    }
    return [
        {name: {key: values[i, image] for key, values in found.items()} for i, name in enumerate(SCORERS)}
        for image in range(scores.shape[2])
    ]


def look(image: Image.Image) -> dict[str, float]:
    """`contrast`: standard deviation of pixels in [0, 1]; `sharpness`: mean |Laplacian| of their grey."""
    pixels = np.asarray(image.convert("RGB")) / 255
    grey = pixels.mean(-1)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    sharpness = np.abs(around - 4 * grey[1:-1, 1:-1]).mean()
    return {"contrast": float(pixels.std()), "sharpness": float(sharpness)}


def looks(images: Sequence[Image.Image]) -> dict[str, Float[np.ndarray, " n"]]:
    """Those of some images, by what they are called."""
    found = [look(image) for image in images]
    return {name: np.array([one[name] for one in found]) for name in found[0]}
