"""What one run works on: the model, the images with their classes, and the rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eval.best import Figure, best_of, read_report
from eval.data import ImageSource, open_images, rows
from eval.labels import match_labels
from eval.masking.arms import Ranker, choose_arms, fixed_arms
from eval.masking.classifier import Classifier
from eval.masking.floor import image_seed
from eval.masking.loading import ClassifierChoice, load_classifier
from eval.masking.measure import Measurement
from eval.masking.options import MaskingOptions
from eval.masking.ranking import Order
from eval.masking.scorers import find_scorers
from eval.preprocess import Preprocessing
from eval.schema import Schema
from tokenrank_guidance.devices import DTYPES, warn_of_slow_numbers
from tokenrank_guidance.memory import check_square


@dataclass(frozen=True)
class Task:
    """`classes` gives the class of each of the images `indices`; `unlabelled` have no label."""

    classifier: Classifier
    preprocessing: Preprocessing
    source: ImageSource
    indices: Sequence[int]
    unlabelled: Sequence[int]
    classes: Mapping[int, int]
    ranker: Ranker

    @property
    def device(self) -> torch.device:
        return next(self.classifier.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.classifier.model.parameters()).dtype

    def prepared(self, images: Sequence[int]) -> Float[Tensor, "images 3 height width"]:
        """These images, all readable, as the classifier takes them."""
        pictures = [self.preprocessing(self.source[i].image) for i in images]
        return torch.stack(pictures).to(self.device, self.dtype)

    def rankings(
        self, measure: Measurement, images: Sequence[int], size: int = 8
    ) -> tuple[Int[Tensor, "arms images patches"], tuple[int, int]]:
        """Every arm's ranking of these images, made anew in batches of `size`, and the grid; on the CPU."""
        parts, grid = [], (0, 0)
        for first in range(0, len(images), size):
            chosen = images[first : first + size]
            seeds = [image_seed(measure.masking.seed, i) for i in chosen]
            _, places, grid = measure.rank(self.prepared(chosen), seeds)
            parts.append(places.short().cpu())
        return torch.cat(parts, 1), grid


def open_task(asked: MaskingOptions, device: str) -> Task:
    """Open what was asked for; ValueError for labels without a class, and for no labelled image."""
    dtype = DTYPES[asked.dtype]
    warn_of_slow_numbers(dtype, device)
    check_square(asked.resize, "cpu")  # where pictures are prepared
    source = open_images(asked.data, split=asked.split)
    images = rows(source, asked.rows, asked.limit)
    labelled = [i for i in images if source.labels[i] is not None]
    if not labelled:
        raise ValueError(f"{asked.data} has no labelled image in the rows asked for")
    choice = ClassifierChoice(
        asked.model, asked.head, source.label_names, DTYPES[asked.dtype], device, asked.resize
    )
    classifier, preprocessing = load_classifier(choice)
    return Task(
        classifier,
        preprocessing,
        source,
        labelled,
        [i for i in images if source.labels[i] is None],
        _classes(source, labelled, classifier),
        _ranker(asked, classifier.model),
    )


def _classes(source: ImageSource, labelled: Sequence[int], classifier: Classifier) -> dict[int, int]:
    labels = {i: str(source.labels[i]) for i in labelled}
    names = list(dict.fromkeys(labels.values()))
    index = match_labels(names, dict(enumerate(classifier.labels)), source.label_wnids)
    return {i: index[label] for i, label in labels.items()}


def _ranker(asked: MaskingOptions, model: nn.Module) -> Ranker:
    if asked.layers_from is None:
        return choose_arms(model, asked.scorers, asked.layers or "auto")
    free = [name for name, scorer in find_scorers(asked.scorers).items() if scorer.reads != "one layer"]
    known = best_layers(asked.layers_from) | dict.fromkeys(free)
    missing = [name for name in asked.scorers if name not in known]
    if missing:
        raise ValueError(
            f"{asked.layers_from} has no layer for {', '.join(missing)}: it has {', '.join(known)}"
        )
    return fixed_arms(model, {name: known[name] for name in asked.scorers})


class _Row(Schema):
    scorer: str
    layer: int | None
    auc: Figure


class _Config(Schema):
    order: Order


class _Report(Schema):
    config: _Config
    results: list[_Row]


def best_layers(report: Path) -> dict[str, int | None]:
    """Each scorer's best layer in an earlier report, of equal ones the first: lowest area where the highest
    scores were masked first, else highest. ValueError for another file.
    """
    content = read_report(report, "eval.masking", _Report)
    sign = -1 if content.config.order == "descending" else 1
    best = best_of(content.results, lambda row: row.scorer, lambda row: sign * row.auc.value)
    return {name: row.layer for name, row in best.items()}
