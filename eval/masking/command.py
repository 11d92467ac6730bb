"""`python -m eval.masking`: opens, measures what is missing, publishes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from eval.data import UnreadableImage
from eval.kept import Kept
from eval.masking.fid import fid_curves
from eval.masking.floor import image_seed
from eval.masking.measure import Masking, Measurement
from eval.masking.options import parse
from eval.masking.pixels import Grid
from eval.masking.result import MaskingResult
from eval.masking.store import Measured, features_fit, recorded
from eval.masking.stream import Batch, Stream
from eval.masking.task import Task, open_task
from eval.masking.tokens import Shown, tokens_figure
from eval.masking.views import VIEWS
from eval.metrics.frechet import check_inception
from eval.patches import patch_side
from eval.processes import device_of, join_processes
from eval.running import image_journals, measure_missing, publish, unreadable
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.report import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 8  # captured together, and lost at most when a run is interrupted


@dataclass(frozen=True)
class Run:
    """A task's images through a measurement; features for Fréchet distances are `kept`, if there are any."""

    task: Task
    measure: Measurement
    kept: Kept | None

    def records(self, images: Iterable[int]) -> Iterator[tuple[int, Json]]:
        """Of images in batches; features go first, so that an image in the journal has them."""
        task = self.task
        for batch in Stream(task.source, task.preprocessing, task.classes, IMAGES).batches(images):
            if isinstance(batch, UnreadableImage):
                yield batch.index, unreadable(batch)
                continue
            labels, seeds = batch.labels.to(task.device), _seeds(batch, self.measure.masking)
            outcome = self.measure(batch.images.to(task.device, task.dtype), labels, seeds)
            if self.kept is not None and outcome.features is not None:
                for image, features in zip(batch.indices, outcome.features, strict=True):
                    self.kept.add(image, {"features": features})
            yield from zip(batch.indices, recorded(outcome), strict=True)

    def result(self, records: Mapping[int, Json], patches: int, inception: Path | None) -> MaskingResult:
        """The images of `records` as arrays, and FID by these weights if they are given."""
        features = None if self.kept is None else [self.kept.load(i)["features"] for i in records]
        return MaskingResult(
            self.task.ranker,
            self.measure.masking,
            patches,
            np.array([record["rank"] for record in records.values()]),
            np.array([record["probability"] for record in records.values()], dtype=float),  # None is NaN
            None if features is None else torch.stack(features).numpy(),
            None if inception is None else fid_curves(inception, self.task, self.measure, list(records)),
        )


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    asked = parse(argv)
    state = join_processes(asked.device)
    task = open_task(asked, device_of(state, asked.device))
    masking = asked.masking(len(task.ranker.arms))
    if asked.inception is not None:
        check_inception(asked.inception)
    shape = (len(task.ranker.arms), 1 + len(masking.fractions))
    kept = Kept(asked.out / "features", lambda one: features_fit(one, shape)) if masking.frechet else None
    run = Run(task, Measurement(task.classifier, task.ranker, masking), kept)
    config = settings(task, masking)
    journals = image_journals(asked.out, config, Measured, shape)
    finished = measure_missing(state, journals, task.indices, run.records, kept)
    if finished is not None:
        shown = _shown(run, _one_of_each(task, list(finished.records))[: max(1, asked.pictures)])
        result = run.result(finished.records, shown.places.shape[-1], asked.inception)
        skipped = {"unreadable": finished.unreadable, "unlabelled": list(task.unlabelled)}
        publish(asked, config, result, skipped, VIEWS, {"tokens.png": _tokens(result, shown, asked.pictures)})


def settings(task: Task, masking: Masking) -> Json:
    """What an image's results depend on: a run with other settings cannot go on in the same folder."""
    return {
        "weights": weights_digest(task.classifier.model),
        "classes": len(task.classifier.labels),
        "data": task.source.digest,
        "preprocessing": vars(task.preprocessing),
        "arms": [arm.key for arm in task.ranker.arms],
        "mask": masking.mask,
        "fractions": masking.fractions,
        "order": masking.order,
        "seed": masking.seed,
        "frechet": masking.frechet,
        "dtype": str(task.dtype),
    }


def _seeds(batch: Batch, masking: Masking) -> list[int]:
    return [image_seed(masking.seed, index) for index in batch.indices]


def _one_of_each(task: Task, images: Sequence[int]) -> list[int]:
    """The first image of every class, then the rest."""
    first = {task.classes[i]: i for i in reversed(images)}
    return sorted(images, key=lambda i: (first[task.classes[i]] != i, i))


def _shown(run: Run, images: Sequence[int]) -> Shown:
    task = run.task
    places, shape = task.rankings(run.measure, images)
    grid = Grid(shape, patch_side(task.classifier.model))
    pixels = task.preprocessing.pixels(task.prepared(images)).permute(0, 2, 3, 1)
    names = [str(task.source.labels[i]) for i in images]
    return Shown(pixels.cpu().numpy(), places.numpy(), grid, names)


def _tokens(result: MaskingResult, shown: Shown, pictures: int) -> Figure | None:
    """The tokens of each ranking at its best layer."""
    chosen = list(result.best.values())
    return tokens_figure(shown, result.ranker.arms, chosen, result.masking.order) if pictures else None
