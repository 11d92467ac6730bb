"""`python -m eval.guidance`: opens, draws what is missing, publishes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from eval.data import ImageSource, UnreadableImage, open_images
from eval.generate.arms import Arm
from eval.generate.draw import Drawing
from eval.generate.prompts import Prompts, read_prompts
from eval.guidance.measure import Measured, Watching, agreement, look, looks
from eval.guidance.options import GuidanceOptions, parse
from eval.guidance.result import GuidanceResult, rows_figure
from eval.guidance.views import VIEWS
from eval.models import open_pipeline
from eval.processes import device_of, join_processes
from eval.running import image_journals, measure_missing, publish
from sag.guidance import SelfAttentionGuidance
from sag.kinds import NONE
from tokenrank_guidance.calls import Sampling
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.messages import progress, say
from tokenrank_guidance.report import Json


@dataclass(frozen=True, eq=False)
class Task:
    """A pipeline, and how each arm draws with it; `config` is all that records depend on."""

    prompts: Prompts
    arms: Sequence[Drawing]
    watched: Drawing
    seed: int
    batch_size: int
    config: Json

    def records(self, images: Iterable[int]) -> Iterator[tuple[int, Json]]:
        """Of each image, drawn in batches: what every arm makes of it, and how scorers' masks of it agree."""
        waiting = iter(images)
        while batch := list(islice(waiting, self.batch_size)):
            drawn = {drawing.arm.text: self.draw(drawing, batch) for drawing in self.arms}
            for place, (image, masks) in enumerate(zip(batch, self._masks(batch), strict=True)):
                yield image, {"arms": {arm: look(own[place]) for arm, own in drawn.items()}, "masks": masks}

    def draw(self, drawing: Drawing, images: Sequence[int]) -> list[Image.Image]:
        """Those images as an arm draws them, in one batch."""
        return drawing([job for i in images for job in self.prompts.jobs(range(i, i + 1), self.seed)]).images

    def shown(self, n: int, few: int) -> dict[str, list[Image.Image]]:
        """Some of n images, evenly chosen, as each arm draws them."""
        chosen = np.linspace(0, n - 1, min(few, n)).round().astype(int).tolist()
        batches = [chosen[i : i + self.batch_size] for i in range(0, len(chosen), self.batch_size)]
        return {
            drawing.arm.text: [image for batch in batches for image in self.draw(drawing, batch)]
            for drawing in progress(self.arms, "pictures of arms")
        }

    def _masks(self, images: Sequence[int]) -> list[Json]:
        watching = Watching()
        self.draw(replace(self.watched, guidance=SelfAttentionGuidance(scorer=watching)), images)
        return agreement(np.stack(watching.steps))


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    asked = parse(argv)
    real = None if asked.reference is None else open_images(asked.reference)
    state = join_processes(asked.device)
    task = open_task(asked, device_of(state, asked.device))
    names = [drawing.arm.text for drawing in task.arms]
    journals = image_journals(asked.out, task.config, Measured, names)
    finished = measure_missing(state, journals, range(asked.n), task.records)
    if finished is not None:
        few = asked.pictures or int(real is not None)  # real ones are measured at the size of a drawn one
        drawn = task.shown(asked.n, few)
        looked = {} if real is None else _real(real, asked.n, drawn[names[0]][0].size)
        result = GuidanceResult(names, list(finished.records.values()), looked)
        figure = rows_figure(drawn) if asked.pictures else None
        publish(asked, task.config, result, {}, VIEWS, {"pictures.png": figure})


def open_task(asked: GuidanceOptions, device: str) -> Task:
    """Open what was asked for; UnsupportedError or ValueError for a model or layer that an arm cannot use."""
    model = open_pipeline(asked.model, device, asked.dtype)
    prompts = read_prompts(asked.prompts, model.pipe, model.embedded)
    plain, *drawings = [
        Drawing.of(model.pipe, Sampling(asked.steps, asked.cfg), arm) for arm in (Arm(NONE), *asked.arms)
    ]
    for drawing in drawings:
        drawing.check(prompts.jobs(range(len(prompts.texts)), 0))
    config = {
        "weights": weights_digest(denoiser_of(model.pipe)),
        "model_dtype": asked.dtype,
        "prompts_sha256": prompts.digest,
        "guidance": {arm.text: arm.all_settings for arm in asked.arms},
        "cfg": asked.cfg,
        "steps": asked.steps,
        "seed": asked.seed or 0,
    }
    return Task(prompts, drawings, plain, asked.seed or 0, asked.batch_size, config)


def _real(source: ImageSource, n: int, size: tuple[int, int]) -> dict[str, Float[np.ndarray, " n"]]:
    """The looks of at most n of the real images, evenly chosen, cropped and resampled to `size`."""
    read = []
    for i in np.linspace(0, len(source) - 1, min(n, len(source))).round().astype(int).tolist():
        try:
            read.append(ImageOps.fit(source[i].image, size, Image.Resampling.BICUBIC))
        except UnreadableImage as error:
            say(f"warning: {error}")
    if not read:
        raise ValueError(f"none of the images of --reference {source.name} can be read")
    return looks(read)
