"""What every experiment does: measure the images that no journal has, in one process or several, and publish.

An experiment opens its model and data, hands `measure_missing` a function of images and a schema of what that
gives, and makes a result of the records, which `publish` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from accelerate import PartialState
from jaxtyping import Float

from eval.arguments import Running
from eval.data import UnreadableImage
from eval.journal import Journals
from eval.kept import Kept
from eval.processes import agreed
from eval.report import provenance, save_figure
from eval.schema import Record, Unreadable, check_index, validated
from eval.views import Views
from tokenrank_guidance.files.writing import write_text
from tokenrank_guidance.messages import progress, say
from tokenrank_guidance.report import Json, emit, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNREADABLE = "unreadable"
FIGURES = ("png", "svg")
Measure = Callable[[Iterable[int]], Iterator[tuple[int, Json]]]


def image_journals(folder: Path, config: Json, schema: type[Record], expected: Any) -> Journals:
    """One journal of images for each process, in `folder`; those of another `config` are refused.

    A record is of the `schema` and passes its check of what is `expected`, or says why there is none.
    """

    def check(key: str, record: Json) -> None:
        check_index(key)
        found = validated(Unreadable | schema, record)
        if isinstance(found, Record):
            found.check(expected)

    return Journals(folder, "images", config, check)


@dataclass(frozen=True)
class Finished:
    """The records of all images that could be read, by their index, and the indices of the others."""

    records: Mapping[int, Json]
    unreadable: Sequence[int]


def measure_missing(
    state: PartialState,
    journals: Journals,
    images: Sequence[int],
    measure: Measure,
    kept: Kept | None = None,
) -> Finished | None:
    """Measure those of `images` that no journal has, split among the processes; None but in the main one.

    `measure` gives the record of each image, in any order. An image that is in a journal, but has lost what
    was `kept` beside it, is measured again. Raises ValueError where no image can be read.
    """

    def look() -> tuple[list[int], set[int]]:
        done = journals.records()
        read = [i for i in images if i in done and UNREADABLE not in done[i]]
        lost = {i for i in read if kept is not None and not kept.whole(i)}
        return [i for i in images if i not in done or i in lost], set(done)

    missing, recorded = agreed(state, look)
    own = missing[state.process_index :: state.num_processes]
    with journals.of(state.process_index) as journal:
        for image, record in measure(progress(own, "images", len(images) - len(missing))):
            if image not in recorded:
                journal.add(str(image), record)
    state.wait_for_everyone()
    return _finished(journals.records(), images) if state.is_main_process else None


def _finished(records: Mapping[int, Json], images: Sequence[int]) -> Finished:
    read = {i: records[i] for i in images if UNREADABLE not in records[i]}
    if not read:
        raise ValueError(f"none of the {len(images)} images of --data can be read")
    return Finished(read, [i for i in images if i not in read])


def one_by_one(measure: Callable[[int], Json]) -> Measure:
    """Of a function of one image, which may raise UnreadableImage."""

    def measure_each(images: Iterable[int]) -> Iterator[tuple[int, Json]]:
        for image in images:
            try:
                yield image, measure(image)
            except UnreadableImage as error:
                yield image, unreadable(error)

    return measure_each


def unreadable(error: UnreadableImage) -> Json:
    """The record of an image that cannot be read, which is said as well."""
    say(f"warning: {error}")
    return {UNREADABLE: error.reason}


class Result(Protocol):
    """What became of `n` images."""

    @property
    def n(self) -> int: ...
    def to_json(self) -> Json: ...


def publish(
    asked: Running,
    config: Json,
    result: Result,
    skipped: Json,
    views: Views,
    pictures: Mapping[str, Figure | None],
) -> None:
    """Write the report's figures and tables and, once those are there, the report.

    The report begins with all that was asked for and what results depend on, and is printed, too. `pictures`
    are figures, by their files' names, that show images, which no report holds.
    """
    seed = asked.seed or 0
    digest = {"data_sha256": config["data"]} if "data" in config else {}  # asked for is where they lie
    head = provenance(config | vars(asked) | {"seed": seed} | digest, seed, result.n)
    report = plain(head | result.to_json() | {"skipped": skipped})
    write_views(asked.out, views, report)
    for name, picture in pictures.items():
        if picture is not None:
            save_figure(picture, asked.out / name)
    emit(report, asked.out)


def write_views(out: Path, views: Views, report: Json) -> None:
    """table.md, and each figure as PNG and SVG."""
    write_text(out / "table.md", views.markdown(report) + "\n")
    save_drawn(out, views.drawn(report))


def save_drawn(out: Path, figures: Mapping[str, Figure]) -> None:
    """Each figure as PNG and as SVG."""
    for name, figure in figures.items():
        for suffix in FIGURES:
            save_figure(figure, out / f"{name}.{suffix}")


def worst_and_best(scores: Float[np.ndarray, " n"], few: int) -> list[tuple[int, str]]:
    """Positions of the `few` ≥ 1 lowest and the `few` highest scores, each once, with what it is."""
    order = scores.argsort(kind="stable").tolist()
    worst, best = order[:few], [i for i in order[-few:] if i not in order[:few]]
    return [*((i, "worst") for i in worst), *((i, "best") for i in best)]
