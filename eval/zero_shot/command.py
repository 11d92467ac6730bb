"""`python -m eval.zero_shot`: opens, measures what is missing, publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from diffseg.zero_shot import heat_maps
from diffseg.zero_shot.layers import check_family, is_joint
from diffseg.zero_shot.options import Options
from eval.data import rows
from eval.models import open_pipeline
from eval.processes import device_of, join_processes
from eval.running import image_journals, measure_missing, one_by_one, publish, worst_and_best
from eval.zero_shot.arms import JOINT_ARMS, UNET_ARMS, Arm, curve_arms, named_arms
from eval.zero_shot.objects import Labelled, Objects, open_objects
from eval.zero_shot.options import ZeroShotOptions, captioned, parse
from eval.zero_shot.pictures import Shown, grid_figure
from eval.zero_shot.protocol import PROTOCOLS, Protocol
from eval.zero_shot.result import ZeroShotResult
from eval.zero_shot.tally import Measured, Tally, squared, tally
from eval.zero_shot.views import VIEWS
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.registry import words_of
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.report import Json
from tokenrank_guidance.tiny.tokenizer import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMBEDDED_RESOLUTION = 128  # 16×16 tokens, the embedded models' own size


@dataclass(frozen=True, eq=False)
class Task:
    """A pipeline, and the ways that it is asked for each object; `config` is all that records depend on."""

    pipe: Any
    objects: Objects
    arms: Sequence[Arm]
    caption: str
    protocol: Protocol
    config: Json

    def record(self, image: int) -> Json:
        """Of one picture."""
        one = self.objects[image]
        _, mask = squared(one.image, one.mask)
        pairs = zip(self.arms, self.heats(one, self.arms), strict=True)
        return {"arms": {arm.key: tally(heat, mask, self.protocol).to_json() for arm, heat in pairs}}

    def heats(self, one: Labelled, arms: Sequence[Arm]) -> list[Float[Tensor, "gh gw"]]:
        """Each arm's map of the object, all from the same passes."""
        pixels, _ = squared(one.image, one.mask)
        caption = captioned(self.caption, one.word)
        found = heat_maps(self.pipe, pixels, [one.word], [arm.options for arm in arms], caption)
        return [result.heats[0] for result in found]

    def result(self, records: Mapping[int, Json]) -> ZeroShotResult:
        tallies = [[Tally.of(record["arms"][arm.key]) for arm in self.arms] for record in records.values()]
        return ZeroShotResult(self.arms, [self.objects.words[i] for i in records], tallies)


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    asked = parse(argv)
    state = join_processes(asked.device)
    task = open_task(asked, device_of(state, asked.device))
    images = rows(task.objects, asked.rows, asked.limit)
    keys = [arm.key for arm in task.arms]
    journals = image_journals(asked.out, task.config, Measured, keys)
    finished = measure_missing(state, journals, images, one_by_one(task.record))
    if finished is not None:
        result = task.result(finished.records)
        pictures = {"pictures.png": _grid(task, result, list(finished.records), asked.pictures)}
        publish(asked, task.config, result, {"unreadable": finished.unreadable}, VIEWS, pictures)


def open_task(asked: ZeroShotOptions, device: str) -> Task:
    """Open what was asked for; ValueError for mistakes, before the model is loaded where possible."""
    common = asked.common
    objects = open_objects(asked.data, asked.concept, asked.names, asked.split)
    model = open_pipeline(asked.model, device, asked.dtype)
    check_family(model.pipe)
    if model.embedded:
        common = _embedded(common, asked)
    arms = [*named_arms(asked.methods or default_arms(model.pipe), common), *curve_arms(asked.curve, common)]
    config = objects.config | {
        "weights": weights_digest(denoiser_of(model.pipe)),
        "model_dtype": asked.dtype,
        "caption": asked.caption,
        "protocol": asked.protocol,
        "arms": {arm.key: _plain(arm.options) for arm in arms},
    }
    return Task(model.pipe, objects, arms, asked.caption, PROTOCOLS[asked.protocol], config)


def default_arms(pipe: Any) -> tuple[str, ...]:
    """Of the default methods those that are defined for the pipeline."""
    if not is_joint(pipe):
        return UNET_ARMS
    missing = () if words_of(pipe).concepts else ("concept-attention",)
    return tuple(name for name in JOINT_ARMS if name not in missing)


def _embedded(common: Options, asked: ZeroShotOptions) -> Options:
    """What suits the package's own miniatures, which know no words but their labels."""
    background = LABELS if asked.background is None else common.background
    return replace(common, resolution=common.resolution or EMBEDDED_RESOLUTION, background=background)


def _plain(options: Options) -> Json:
    """All of them but what changes memory and time alone."""
    return {name: value for name, value in asdict(options).items() if name != "memory"}


def _grid(task: Task, result: ZeroShotResult, images: Sequence[int], few: int) -> Figure | None:
    """The worst and the best pictures, by the mean over methods; their heat maps are made anew."""
    if not few:
        return None
    arms = [task.arms[i] for i in result.shown]
    scores = np.array([result.scores(i) for i in result.shown])
    shown = []
    for place, kind in worst_and_best(scores.mean(0), few):
        one = task.objects[images[place]]
        pixels, mask = squared(one.image, one.mask)
        size = (mask.shape[0], mask.shape[1])
        heats = [task.protocol.read(heat, size) for heat in task.heats(one, arms)]
        title = f"{kind}: {one.index}, {one.word}"
        shown.append(Shown(title, pixels.movedim(0, -1).numpy(), mask, heats, scores[:, place].tolist()))
    return grid_figure(shown, [arm.name for arm in arms])
