"""`python -m eval.segmentation`: opens, measures what is missing, sums up."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffseg.passes.images import Rgb, read_images
from diffseg.settings import Settings
from eval.data import UnreadableImage, rows
from eval.journal import Journal
from eval.metrics.confusion import IGNORE
from eval.metrics.matching import match_segments, overlap_matrix
from eval.report import provenance, save_figure
from eval.segmentation.arms import Arm
from eval.segmentation.classes import Classes, name_classes
from eval.segmentation.clusters import matched_per_data_set
from eval.segmentation.loading import load_attention
from eval.segmentation.measure import Measurement
from eval.segmentation.options import arms_of, parse, settings_of
from eval.segmentation.pictures import Shown, overlays_figure
from eval.segmentation.result import SegmentationResult
from eval.segmentation.scenes import Scene, Scenes, open_scenes
from eval.segmentation.store import UNREADABLE, Described, Store
from eval.segmentation.tally import counts, matched_per_image, miou
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.files.writing import write_text
from tokenrank_guidance.messages import progress, say
from tokenrank_guidance.report import emit

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Task:
    """What one run works on."""

    arguments: Namespace
    scenes: Scenes
    indices: Sequence[int]
    measure: Measurement
    store: Store


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    task = open_task(parse(argv))
    with task.store.journal() as journal:
        _measure_all(task, journal)
        read = [i for i in task.indices if UNREADABLE not in journal.done[str(i)]]
        if not read:
            raise ValueError(f"none of the {len(task.indices)} pictures of {task.arguments.data} can be used")
        _report(task, summed_up(task, journal, read), read)


def open_task(arguments: Namespace) -> Task:
    """Open what the arguments name; ValueError for mistakes, before the model is loaded where possible."""
    settings, arms = settings_of(arguments), arms_of(arguments)
    scenes = open_scenes(arguments.data, arguments.class_names, arguments.split)
    indices = rows(scenes, arguments.rows, arguments.limit)
    attention = load_attention(arguments, settings)
    measure = Measurement(attention, arms, attention.settings)
    config = scenes.config | {
        "weights": weights_digest(attention.model),
        "model_dtype": arguments.dtype,
        "arms": [arm.key for arm in arms],
        "match": arguments.match,
        "settings": _plain(attention.settings),
    }
    store = Store(arguments.out, config, arms, "data-set" in arguments.match)
    return Task(arguments, scenes, indices, measure, store)


def _plain(settings: Settings) -> Json:
    """All settings but those that the arms choose."""
    return {key: value for key, value in vars(settings).items() if key not in ("anchors", "kl_threshold")}


def _measure_all(task: Task, journal: Journal) -> None:
    missing = [i for i in task.indices if not task.store.finished(journal, i)]
    for index in progress(missing, "images", len(task.indices) - len(missing)):
        try:
            scene = task.scenes[index]
        except UnreadableImage as error:
            say(f"warning: {error}")
            journal.add(str(index), {UNREADABLE: error.reason})
            continue
        height, width = scene.truth.shape
        task.store.add(journal, index, task.measure(_rgb(scene), (height, width)), scene.truth)


def _rgb(scene: Scene) -> Rgb:
    return read_images(scene.image)[0][0]


def summed_up(task: Task, journal: Journal, read: Sequence[int]) -> SegmentationResult:
    """The pictures of `read`, all measured."""
    records = [task.store.records(journal, i) for i in read]
    values = 1 + max(one.index for picture in records for record in picture for one in record.classes)
    classes = name_classes(task.scenes, values)
    placed = [
        [replace(one, classes=classes.place(index, one.classes)) for one in picture]
        for index, picture in zip(read, records, strict=True)
    ]
    matched = [_per_data_set(task, classes, arm, read) for arm in task.store.arms if task.store.describe]
    return SegmentationResult(task.store.arms, classes.names, placed, matched)


def _per_data_set(task: Task, classes: Classes, arm: Arm, read: Sequence[int]) -> Any:
    pictures = [task.store.described(i, arm) for i in read]
    placed = [
        Described(classes.columns(i, one.overlap), one.vectors) for i, one in zip(read, pictures, strict=True)
    ]
    return matched_per_data_set(placed, task.measure.settings.seed)


def _report(task: Task, result: SegmentationResult, read: Sequence[int]) -> None:
    arguments = task.arguments
    if arguments.pictures:
        _draw(task, result, read, arguments.out / "overlays.png")
    write_text(arguments.out / "table.md", result.markdown() + "\n")
    seed = task.measure.settings.seed
    skipped = {"unreadable": [i for i in task.indices if i not in set(read)]}
    report = provenance(vars(arguments) | dict(task.store.config), seed, result.n) | result.to_json()
    emit(report | {"skipped": skipped}, arguments.out)


def _draw(task: Task, result: SegmentationResult, read: Sequence[int], path: Path) -> None:
    """The worst and the best pictures, with each anchor choice at its best τ."""
    chosen = [task.store.arms[i] for i in result.best.values()]
    measure = replace(task.measure, arms=chosen)
    order = [read[i] for i in result.scores.argsort(kind="stable")]
    few = min(task.arguments.pictures, len(order))
    worst, best = order[:few], [i for i in order[-few:] if i not in order[:few]]
    shown = [_shown(measure, task.scenes[i], "worst") for i in worst]
    shown += [_shown(measure, task.scenes[i], "best") for i in best]
    columns = [f"{arm.anchors}\nτ = {arm.threshold}" for arm in chosen]
    save_figure(overlays_figure(shown, columns), path)


def _shown(measure: Measurement, scene: Scene, kind: str) -> Shown:
    """Made anew: label maps are not kept."""
    height, width = scene.truth.shape
    segments = [one.labels.numpy() for one in measure(_rgb(scene), (height, width)).arms]
    classes = int(scene.truth[scene.truth != IGNORE].max()) + 1
    overlaps = [overlap_matrix(labels, scene.truth, classes) for labels in segments]
    scores = [float(miou(counts([matched_per_image(one)], classes)[0])) for one in overlaps]
    matched = [match_segments(one) for one in overlaps]
    return Shown(f"{kind}: {scene.index}", scene.image, scene.truth, segments, matched, scores)
