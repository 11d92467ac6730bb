"""`python -m eval.segmentation`: opens, measures what is missing, publishes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diffseg.passes.images import Rgb, read_images
from diffseg.settings import Settings
from eval.data import rows
from eval.kept import Kept
from eval.metrics.confusion import mean_iou
from eval.metrics.matching import match_segments
from eval.processes import device_of, join_processes
from eval.running import image_journals, measure_missing, one_by_one, publish, worst_and_best
from eval.segmentation.arms import Arm
from eval.segmentation.classes import Classes, name_classes
from eval.segmentation.clusters import matched_per_data_set
from eval.segmentation.loading import load_attention
from eval.segmentation.measure import Measurement, Outcome
from eval.segmentation.options import SegmentationOptions, parse
from eval.segmentation.pictures import Shown, overlays_figure
from eval.segmentation.result import SegmentationResult
from eval.segmentation.scenes import Scene, Scenes, open_scenes
from eval.segmentation.store import (
    Described,
    ImageRecord,
    Measured,
    described,
    overlaps_of,
    recorded,
    segments_fit,
)
from eval.segmentation.tally import ClassTally, counts, matched_per_image
from eval.segmentation.views import VIEWS
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.report import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Task:
    """Pictures, and how they are segmented; segments are `kept` for matching over the data set."""

    scenes: Scenes
    measure: Measurement
    kept: Kept | None
    config: Json

    def record(self, image: int) -> Json:
        """Of one picture; its segments go first, so that a picture in the journal has them."""
        scene = self.scenes[image]
        outcome = _segmented(self.measure, scene)
        overlaps = overlaps_of(outcome, scene.truth)
        if self.kept is not None:
            self.kept.add(image, described(self.measure.arms, outcome, overlaps))
        return recorded(self.measure.arms, outcome, overlaps)

    def result(self, records: Mapping[int, Json]) -> SegmentationResult:
        arms = self.measure.arms
        pictures = {i: [ImageRecord.of(record, arm) for arm in arms] for i, record in records.items()}
        values = 1 + max(one.index for own in pictures.values() for arm in own for one in arm.classes)
        classes = name_classes(self.scenes, values)
        placed = [
            [replace(one, classes=classes.place(i, one.classes)) for one in own]
            for i, own in pictures.items()
        ]
        matched = [self._matched(classes, arm, records) for arm in arms if self.kept is not None]
        return SegmentationResult(arms, classes.names, placed, matched)

    def _matched(self, classes: Classes, arm: Arm, images: Iterable[int]) -> list[list[ClassTally]]:
        """Every picture's classes under one matching of an arm's segments over the data set."""
        assert self.kept is not None
        found = [(i, Described.of(self.kept.load(i), arm)) for i in images]
        placed = [Described(classes.columns(i, one.overlap), one.vectors) for i, one in found]
        return matched_per_data_set(placed, self.measure.settings.seed)


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    asked = parse(argv)
    state = join_processes(asked.device)
    task = open_task(asked, device_of(state, asked.device))
    images = rows(task.scenes, asked.rows, asked.limit)
    keys = [arm.key for arm in task.measure.arms]
    journals = image_journals(asked.out, task.config, Measured, keys)
    finished = measure_missing(state, journals, images, one_by_one(task.record), task.kept)
    if finished is not None:
        result = task.result(finished.records)
        pictures = {"overlays.png": _overlays(task, result, list(finished.records), asked.pictures)}
        publish(asked, task.config, result, {"unreadable": finished.unreadable}, VIEWS, pictures)


def open_task(asked: SegmentationOptions, device: str) -> Task:
    """Open what was asked for; ValueError for mistakes, before the model is loaded where possible."""
    arms = asked.arms
    scenes = open_scenes(asked.data, asked.class_names, asked.split)
    attention = load_attention(asked, device)
    config = scenes.config | {
        "weights": weights_digest(attention.model),
        "model_dtype": asked.dtype,
        "arms": [arm.key for arm in arms],
        "match": asked.match,
        "settings": _plain(attention.settings),
    }
    kept = Kept(asked.out / "segments", lambda one: segments_fit(one, arms))
    measure = Measurement(attention, arms, attention.settings)
    return Task(scenes, measure, kept if "data-set" in asked.match else None, config)


def _plain(settings: Settings) -> Json:
    """All settings but those that the arms choose."""
    return {key: value for key, value in vars(settings).items() if key not in ("anchors", "kl_threshold")}


def _segmented(measure: Measurement, scene: Scene) -> Outcome:
    height, width = scene.truth.shape
    return measure(_rgb(scene), (height, width))


def _rgb(scene: Scene) -> Rgb:
    return read_images(scene.image)[0][0]


def _overlays(task: Task, result: SegmentationResult, images: Sequence[int], few: int) -> Figure | None:
    """The worst and the best pictures, with each anchor choice at its best τ; label maps are made anew."""
    if not few:
        return None
    arms = [task.measure.arms[i] for i in result.best.values()]
    measure = replace(task.measure, arms=arms)
    shown = [
        _shown(measure, task.scenes[images[place]], kind)
        for place, kind in worst_and_best(result.scores, few)
    ]
    return overlays_figure(shown, [f"{arm.anchors}\nτ = {arm.threshold}" for arm in arms])


def _shown(measure: Measurement, scene: Scene, kind: str) -> Shown:
    outcome = _segmented(measure, scene)
    overlaps = overlaps_of(outcome, scene.truth)
    classes = overlaps[0].shape[1]
    scores = [float(mean_iou(counts([matched_per_image(one)], classes)[0])) for one in overlaps]
    segments = [one.labels.numpy() for one in outcome.arms]
    matched = [match_segments(one) for one in overlaps]
    return Shown(f"{kind}: {scene.index}", scene.image, scene.truth, segments, matched, scores)
