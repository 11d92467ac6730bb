"""`python -m eval.zero_shot`: opens, measures what is missing, sums up."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg.zero_shot import heat_maps
from diffseg.zero_shot.layers import check_family, is_joint
from diffseg.zero_shot.options import Options
from eval.data import UnreadableImage, rows
from eval.journal import Journal
from eval.report import provenance, save_figure
from eval.schema import Unreadable, check_index, validated
from eval.zero_shot.arms import JOINT_ARMS, UNET_ARMS, Arm, curve_arms, named_arms
from eval.zero_shot.objects import Labelled, Objects, open_objects
from eval.zero_shot.options import captioned, options_of, parse
from eval.zero_shot.pictures import Shown, curve_figure, grid_figure
from eval.zero_shot.result import ZeroShotResult
from eval.zero_shot.tally import Measured, Tally, at_size, squared, tally
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.devices import DTYPES, usable_device
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.files.writing import write_text
from tokenrank_guidance.messages import progress, say
from tokenrank_guidance.pipelines import load_model
from tokenrank_guidance.report import emit
from tokenrank_guidance.tiny.tokenizer import LABELS

Json = dict[str, Any]
EMBEDDED_RESOLUTION = 128  # 16×16 tokens; at their own 64 px they have 8×8
UNREADABLE, ARMS = "unreadable", "arms"


@dataclass(frozen=True, eq=False)
class Task:
    """What one run works on."""

    arguments: Namespace
    pipe: Any
    objects: Objects
    indices: Sequence[int]
    arms: Sequence[Arm]
    config: Json

    def journal(self) -> Journal:
        return Journal(self.arguments.out / "pictures.jsonl", self.config, self._check)

    def _check(self, key: str, record: Json) -> None:
        check_index(key)
        found = validated(Unreadable | Measured, record)
        lacking = [arm.key for arm in self.arms if isinstance(found, Measured) and arm.key not in found.arms]
        if lacking:
            raise ValueError(f"arms: it lacks {', '.join(lacking)}")

    def heats(self, one: Labelled, arms: Sequence[Arm]) -> list[Float[Tensor, "gh gw"]]:
        """Each arm's map of the object, all from the same passes."""
        pixels, _ = squared(one.image, one.mask)
        caption = captioned(self.arguments.caption, one.word)
        found = heat_maps(self.pipe, pixels, [one.word], [arm.options for arm in arms], caption)
        return [result.heats[0] for result in found]


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    task = open_task(parse(argv))
    with task.journal() as journal:
        _measure_all(task, journal)
        read = [i for i in task.indices if UNREADABLE not in journal.done[str(i)]]
        if not read:
            raise ValueError(f"none of the {len(task.indices)} pictures of {task.arguments.data} can be used")
        _report(task, summed_up(task, journal, read), read)


def open_task(arguments: Namespace) -> Task:
    """Open what the arguments name; ValueError for mistakes, before the model is loaded where possible."""
    common = options_of(arguments)
    objects = open_objects(arguments.data, arguments.concept, arguments.names, arguments.split)
    indices = rows(objects, arguments.rows, arguments.limit)
    model = load_model(arguments.pipe, usable_device(arguments.device), DTYPES[arguments.dtype])
    model.pipe.set_progress_bar_config(disable=True)
    check_family(model.pipe)
    if model.embedded:
        common = _embedded(common, arguments)
    names = arguments.methods or (JOINT_ARMS if is_joint(model.pipe) else UNET_ARMS)
    arms = [*named_arms(names, common), *curve_arms(arguments.curve, common)]
    config = objects.config | {
        "weights": weights_digest(denoiser_of(model.pipe)),
        "model_dtype": arguments.dtype,
        "caption": arguments.caption,
        "arms": {arm.key: _plain(arm.options) for arm in arms},
    }
    return Task(arguments, model.pipe, objects, indices, arms, config)


def _embedded(common: Options, arguments: Namespace) -> Options:
    """What suits the package's own miniatures, which know no words but their labels."""
    background = LABELS if arguments.background is None else common.background
    return replace(common, resolution=common.resolution or EMBEDDED_RESOLUTION, background=background)


def _plain(options: Options) -> Json:
    """All of them but what changes memory and time alone."""
    return {name: value for name, value in asdict(options).items() if name != "memory"}


def _measure_all(task: Task, journal: Journal) -> None:
    missing = [i for i in task.indices if str(i) not in journal.done]
    for index in progress(missing, "pictures", len(task.indices) - len(missing)):
        try:
            one = task.objects[index]
        except UnreadableImage as error:
            say(f"warning: {error}")
            journal.add(str(index), {UNREADABLE: error.reason})
            continue
        _, mask = squared(one.image, one.mask)
        tallies = [tally(heat, mask) for heat in task.heats(one, task.arms)]
        pairs = zip(task.arms, tallies, strict=True)
        journal.add(str(index), {ARMS: {arm.key: found.to_json() for arm, found in pairs}})


def summed_up(task: Task, journal: Journal, read: Sequence[int]) -> ZeroShotResult:
    """The pictures of `read`, all measured."""
    pictures = [[Tally.of(journal.done[str(i)][ARMS][arm.key]) for arm in task.arms] for i in read]
    return ZeroShotResult(task.arms, [task.objects.words[i] for i in read], pictures)


def _report(task: Task, result: ZeroShotResult, read: Sequence[int]) -> None:
    arguments = task.arguments
    if arguments.pictures:
        _draw(task, result, read, arguments.out / "pictures.png")
    if result.curve:
        save_figure(curve_figure(result), arguments.out / "curve.png")
    write_text(arguments.out / "table.md", result.markdown() + "\n")
    seed = task.arms[0].options.seed
    skipped = {"unreadable": [i for i in task.indices if i not in set(read)]}
    report = provenance(vars(arguments) | task.config, seed, result.n) | result.to_json()
    emit(report | {"skipped": skipped}, arguments.out)


def _draw(task: Task, result: ZeroShotResult, read: Sequence[int], path: Path) -> None:
    """The worst and the best pictures, by the mean over methods."""
    scores = torch.tensor([result.scores(i).tolist() for i in result.shown])
    order = scores.mean(0).argsort(stable=True).tolist()
    few = min(task.arguments.pictures, len(order))
    worst, best = order[:few], [i for i in order[-few:] if i not in order[:few]]
    arms = [task.arms[i] for i in result.shown]
    shown = [_shown(task, read[i], kind, scores[:, i].tolist()) for i, kind in _kinds(worst, best)]
    save_figure(grid_figure(shown, [arm.name for arm in arms]), path)


def _kinds(worst: Sequence[int], best: Sequence[int]) -> list[tuple[int, str]]:
    return [*((i, "worst") for i in worst), *((i, "best") for i in best)]


def _shown(task: Task, index: int, kind: str, scores: Sequence[float]) -> Shown:
    """Made anew: heat maps are not kept."""
    one = task.objects[index]
    pixels, mask = squared(one.image, one.mask)
    arms = task.arms[: len(scores)]  # those of the curve come last
    heats = [at_size(heat, (mask.shape[0], mask.shape[1])) for heat in task.heats(one, arms)]
    return Shown(f"{kind}: {index}, {one.word}", pixels.movedim(0, -1).numpy(), mask, heats, scores)
