"""`python -m eval.zero_shot.heads`: opens, measures what is missing, sums up."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.data import UnreadableImage, rows
from eval.journal import Journal
from eval.report import provenance, save_figure
from eval.schema import Unreadable, check_index, validated
from eval.zero_shot.heads.figure import heads_figure
from eval.zero_shot.heads.measure import LayerHeads
from eval.zero_shot.heads.options import options_of, parse
from eval.zero_shot.heads.readers import Reader, open_reader
from eval.zero_shot.heads.result import HeadsResult, Measured, Picture
from eval.zero_shot.objects import Labelled, Objects, open_objects
from eval.zero_shot.tally import squared, tally
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.messages import progress, say
from tokenrank_guidance.report import emit

Json = dict[str, Any]
UNREADABLE = "unreadable"


@dataclass(frozen=True, eq=False)
class Task:
    """What one run works on."""

    arguments: Namespace
    reader: Reader
    objects: Objects
    indices: Sequence[int]
    config: Json

    def journal(self) -> Journal:
        return Journal(self.arguments.out / "heads.jsonl", self.config, self._check)

    def _check(self, key: str, record: Json) -> None:
        check_index(key)
        found = validated(Unreadable | Measured, record)
        if isinstance(found, Measured):
            found.check(len(self.arguments.maps))


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    task = open_task(parse(argv))
    with task.journal() as journal:
        _measure_all(task, journal)
        done = {i: journal.done[str(i)] for i in task.indices}
    read = {i: record for i, record in done.items() if UNREADABLE not in record}
    if not read:
        raise ValueError(f"none of the {len(done)} pictures of {task.arguments.data} can be used")
    _report(task, summed_up(task, list(read.values())), [i for i in done if i not in read])


def open_task(arguments: Namespace) -> Task:
    """Open what the arguments name; ValueError for mistakes, before the model is loaded where possible."""
    options = options_of(arguments)
    objects = open_objects(arguments.data, arguments.concept, arguments.names, arguments.split)
    indices = rows(objects, arguments.rows, arguments.limit)
    reader = open_reader(arguments, options)
    config = objects.config | {
        "weights": weights_digest(reader.model),
        "model_dtype": arguments.dtype,
        "maps": list(arguments.maps),
        **reader.config,
    }
    return Task(arguments, reader, objects, indices, config)


def _measure_all(task: Task, journal: Journal) -> None:
    missing = [i for i in task.indices if str(i) not in journal.done]
    for index in progress(missing, "pictures", len(task.indices) - len(missing)):
        try:
            one = task.objects[index]
        except UnreadableImage as error:
            say(f"warning: {error}")
            journal.add(str(index), {UNREADABLE: error.reason})
            continue
        journal.add(str(index), _measured(task, one))


def _measured(task: Task, one: Labelled) -> Json:
    pixels, mask = squared(one.image, one.mask)
    layers = task.reader(pixels, one.word)
    tallies = [
        [tally(heat, mask) for layer in layers for heat in layer.heats[name].cpu()]
        for name in task.arguments.maps
    ]
    picture = Picture(
        np.concatenate([layer.lambda2.double().cpu().numpy() for layer in layers]),
        np.array([[found.confusion for found in own] for own in tallies]),
        np.array([[found.precision for found in own] for own in tallies]),
    )
    return {"layers": _sizes(layers)} | picture.to_json()


def _sizes(layers: Sequence[LayerHeads]) -> list[list[str | int]]:
    return [[layer.layer, len(layer.lambda2)] for layer in layers]


def summed_up(task: Task, records: Sequence[Json]) -> HeadsResult:
    """The pictures, all measured."""
    if any(record["layers"] != records[0]["layers"] for record in records):
        raise ValueError(f"{task.arguments.out / 'heads.jsonl'} is damaged: its pictures have other layers")
    names, heads = zip(*records[0]["layers"], strict=True)
    layers = np.repeat(np.arange(len(names)), heads)
    return HeadsResult(task.arguments.maps, names, layers, [Picture.of(record) for record in records])


def _report(task: Task, result: HeadsResult, unreadable: Sequence[int]) -> None:
    arguments = task.arguments
    start = "the class token" if arguments.vit is not None else "the word"
    model = Path(str(arguments.vit or arguments.pipe)).name
    data = Path(str(arguments.data)).name.removesuffix(".parquet")
    figure = heads_figure(result, model, data, start)
    for suffix in (".png", ".svg"):
        save_figure(figure, arguments.out / f"heads{suffix}")
    report = provenance(vars(arguments) | task.config, arguments.seed or 0, result.n) | result.to_json()
    emit(report | {"skipped": {"unreadable": list(unreadable)}}, arguments.out)
