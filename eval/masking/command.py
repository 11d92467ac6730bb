"""`python -m eval.masking`: opens, measures what is missing, sums up."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from accelerate import PartialState

from eval.data import UnreadableImage
from eval.journal import Journal
from eval.masking.fid import fid_curves
from eval.masking.figures import curves_figure, layers_figure
from eval.masking.floor import image_seed
from eval.masking.measure import Masking, Measurement
from eval.masking.operation import check_mask
from eval.masking.options import masking_of, parse
from eval.masking.pixels import Grid
from eval.masking.result import MaskingResult
from eval.masking.store import UNREADABLE, Store
from eval.masking.stream import Batch, Stream
from eval.masking.task import Task, open_task
from eval.masking.tokens import Shown, tokens_figure
from eval.metrics.frechet import check_inception
from eval.patches import patch_side
from eval.processes import join_processes
from eval.report import provenance, save_figure
from tokenrank_guidance.devices import DTYPES, usable_device, warn_of_slow_numbers
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.files.writing import write_text
from tokenrank_guidance.messages import progress, say
from tokenrank_guidance.report import emit

Json = dict[str, Any]
IMAGES = 8  # captured together, and lost at most when a run is interrupted


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    arguments = parse(argv)
    state = join_processes(arguments.device)
    device = str(state.device) if arguments.device == "auto" else usable_device(arguments.device)
    warn_of_slow_numbers(DTYPES[arguments.dtype], device)
    task = open_task(arguments, device)
    masking = masking_of(arguments, len(task.ranker.arms))
    _check(arguments, task)
    shape = (len(task.ranker.arms), 1 + len(masking.fractions))
    store = Store(arguments.out, settings(task, masking), shape)
    finished = _in_turn(state, store, masking.frechet)
    measure = Measurement(task.classifier, task.ranker, masking)
    missing = [i for i in task.indices if i not in finished][state.process_index :: state.num_processes]
    with store.journal(state.process_index) as journal:
        _measure_all(task, measure, store, journal, missing, len(task.indices) - len(missing))
    state.wait_for_everyone()
    if state.is_main_process:
        _report(arguments, task, measure, store)


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


def _check(arguments: Namespace, task: Task) -> None:
    check_mask(arguments.mask, task.classifier)
    if arguments.inception is not None:
        check_inception(arguments.inception)


def _in_turn(state: PartialState, store: Store, features: bool) -> dict[int, Json]:
    """What is finished, read by one process after the other, as a journal is open in one at a time."""
    finished: dict[int, Json] = {}
    for turn in range(state.num_processes):
        if turn == state.process_index:
            finished = store.finished(features)
        state.wait_for_everyone()
    return finished


def _measure_all(
    task: Task, measure: Measurement, store: Store, journal: Journal, missing: list[int], done: int
) -> None:
    def skip(error: UnreadableImage) -> None:
        say(f"warning: {error}")
        journal.add(str(error.index), {UNREADABLE: error.reason})

    stream = Stream(task.source, task.preprocessing, lambda i: task.classes[i], skip, IMAGES)
    for batch in stream.batches(progress(missing, "images", done)):
        labels, seeds = batch.labels.to(task.device), _seeds(batch, measure.masking)
        outcome = measure(batch.images.to(task.device, task.dtype), labels, seeds)
        store.add(journal, batch.indices, outcome)


def _seeds(batch: Batch, masking: Masking) -> list[int]:
    return [image_seed(masking.seed, index) for index in batch.indices]


def _report(arguments: Namespace, task: Task, measure: Measurement, store: Store) -> None:
    finished = store.finished()
    unreadable = [i for i in task.indices if UNREADABLE in finished[i]]
    read = [i for i in task.indices if UNREADABLE not in finished[i]]
    if not read:
        raise ValueError(f"none of the {len(task.indices)} images of {arguments.data} can be read")
    shown = _shown(task, measure, _one_of_each(task, read)[: max(1, arguments.pictures)])
    result = store.result(task.ranker, measure.masking, shown.places.shape[-1], read)
    report = result.to_json()
    if arguments.inception is not None:
        for row, values in zip(
            report["results"], fid_curves(arguments.inception, task, measure, read), strict=True
        ):
            for point, value in zip(row["curve"], values, strict=True):
                point["fid"] = value
    _draw(arguments, result, shown)
    write_text(arguments.out / "table.md", result.markdown() + "\n")
    config = vars(arguments) | settings(task, measure.masking)
    skipped = {"unreadable": unreadable, "unlabelled": list(task.unlabelled)}
    emit(provenance(config, arguments.seed, result.n) | report | {"skipped": skipped}, arguments.out)


def _one_of_each(task: Task, images: Sequence[int]) -> list[int]:
    """The first image of every class, then the rest."""
    first = {task.classes[i]: i for i in reversed(images)}
    return sorted(images, key=lambda i: (first[task.classes[i]] != i, i))


def _shown(task: Task, measure: Measurement, images: Sequence[int]) -> Shown:
    places, shape = task.rankings(measure, images)
    grid = Grid(shape, patch_side(task.classifier.model))
    pixels = task.preprocessing.pixels(task.prepared(images)).permute(0, 2, 3, 1)
    names = [str(task.source.labels[i]) for i in images]
    return Shown(pixels.cpu().numpy(), places.numpy(), grid, names)


def _draw(arguments: Namespace, result: MaskingResult, shown: Shown) -> None:
    """curves and, of several layers, layers as PNG and SVG; the tokens of the best layers as PNG."""
    for name, figure in {"curves": curves_figure(result), "layers": layers_figure(result)}.items():
        if figure is not None:
            save_figure(figure, arguments.out / f"{name}.png")
            save_figure(figure, arguments.out / f"{name}.svg")
    if arguments.pictures:
        chosen = list(result.best.values())
        figure = tokens_figure(shown, result.ranker.arms, chosen, result.masking.order)
        save_figure(figure, arguments.out / "tokens.png")
