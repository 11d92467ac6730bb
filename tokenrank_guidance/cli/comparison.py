"""The picture of `tokenrank sample --compare`: the arms side by side, and what each of them blurred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sag.kinds import TITLES
from tokenrank_guidance.calls import Job
from tokenrank_guidance.cli.arms import Arm
from tokenrank_guidance.cli.overlap import bootstrap_mean
from tokenrank_guidance.cli.sample_options import COMPARED, ROWS, other_of
from tokenrank_guidance.cli.tiles import COLOURS, distance, token_tile
from tokenrank_guidance.drawing import GREY, INK, fitted, font, heat, shortened

CELL, TILE, TILES = 192, 64, 6
GAP, TILE_GAP, MARGIN, COLUMN_GAP = 10, 2, 24, 26
BLOCK = TILES * TILE + (TILES - 1) * TILE_GAP  # a guided column: two cells above, the strip below
HEADER, TITLE, CAPTION, FOOTER = 74, 24, 34, 74
LEFT = {
    "none": MARGIN,
    "sag": MARGIN + CELL + COLUMN_GAP,
    "tokenrank": MARGIN + CELL + BLOCK + 2 * COLUMN_GAP,
}
WIDTH = LEFT["tokenrank"] + BLOCK + MARGIN
MOST_ROWS = 6


@dataclass(frozen=True)
class Comparison:
    """Arms "none", "sag" and "tokenrank" over the same jobs; `caption` says how they were drawn."""

    arms: Mapping[str, Arm]
    jobs: Sequence[Job]
    caption: str

    def picture(self) -> Image.Image:
        """One row per image: all of few prompts, the first of each of many."""
        rows = self.rows()
        canvas = Image.new("RGB", (WIDTH, HEADER + len(rows) * self._row_height + FOOTER), "white")
        draw = ImageDraw.Draw(canvas)
        for name in LEFT:
            self._header(draw, name)
        for i, row in enumerate(rows):
            self._row(canvas, HEADER + i * self._row_height, row)
        self._footer(draw, canvas.height - FOOTER + 8, len(rows))
        return canvas

    def rows(self) -> list[int]:
        """Which of the jobs are shown."""
        prompts = list(dict.fromkeys(job.prompt for job in self.jobs))
        each = max(1, ROWS // len(prompts))
        count = len(self.jobs) // len(prompts)
        return [p * count + i for p in range(len(prompts)) for i in range(min(each, count))][:MOST_ROWS]

    @property
    def _aspect(self) -> float:
        width, height = self.arms["none"].images[0].size
        return height / width

    @property
    def _cell(self) -> tuple[int, int]:
        return CELL, round(CELL * self._aspect)

    @property
    def _tile(self) -> tuple[int, int]:
        return TILE, round(TILE * self._aspect)

    @property
    def _row_height(self) -> int:
        return TITLE + self._cell[1] + GAP + self._tile[1] + CAPTION + GAP

    @property
    def _gain(self) -> int:
        """Whole factor that brings the largest differences of all images near 1, the same for both arms."""
        plain = self.arms["none"].images
        largest = max(
            float(np.quantile(distance(image, reference), 0.995))
            for name in COMPARED
            for image, reference in zip(self.arms[name].images, plain, strict=True)
        )
        return int(np.clip(1 / max(largest, 1e-6), 1, 20))

    def _header(self, draw: ImageDraw.ImageDraw, name: str) -> None:
        x = LEFT[name]
        draw.text((x, 14), TITLES[name], COLOURS[name], font(19, "bold"))
        draw.text((x, 48), "image", GREY, font(12))
        if name == "none":
            return
        draw.text((x + CELL + GAP, 48), f"difference to unguided, ×{self._gain}", GREY, font(12))
        draw.text((x + BLOCK, 19), self._agreement(name), INK, font(13), anchor="ra")

    def _agreement(self, name: str) -> str:
        overlap = self.arms[name].overlap
        if overlap is None:
            return "no step was guided"
        mean = bootstrap_mean(overlap.mean(0))
        text = "" if mean.n < 2 else f"  {mean.ends('.2f')}"
        return f"IoU with {TITLES[other_of(name)]}'s mask {mean.value:.2f}{text}"

    def _row(self, canvas: Image.Image, top: int, index: int) -> None:
        draw, job = ImageDraw.Draw(canvas), self.jobs[index]
        title = f"seed {job.seed}" if job.prompt is None else f"{job.prompt}  ·  seed {job.seed}"
        draw.text((MARGIN, top), shortened(title, WIDTH - 2 * MARGIN), INK, font(14, "bold"))
        top += TITLE
        plain = self.arms["none"].images[index]
        canvas.paste(fitted(plain, self._cell), (MARGIN, top))
        for name in COMPARED:
            image = self.arms[name].images[index]
            canvas.paste(fitted(image, self._cell), (LEFT[name], top))
            difference = heat(self._gain * distance(image, plain), self._cell)
            canvas.paste(difference, (LEFT[name] + CELL + GAP, top))
            self._strip(canvas, (LEFT[name], top + self._cell[1] + GAP), name, index)
        self._strip_labels(draw, top + self._cell[1] + GAP)

    def _strip_labels(self, draw: ImageDraw.ImageDraw, top: int) -> None:
        right, bottom = MARGIN + CELL, top + self._tile[1]
        draw.text((right, top + self._tile[1] // 2), "blurred tokens, over time", INK, font(12), anchor="rm")
        draw.text((right, bottom + 3), "step", GREY, font(11), anchor="ra")
        draw.text((right, bottom + 17), "IoU of both masks", GREY, font(11), anchor="ra")

    def _strip(self, canvas: Image.Image, corner: tuple[int, int], name: str, index: int) -> None:
        arm, draw = self.arms[name], ImageDraw.Draw(canvas)
        if arm.overlap is None:
            return
        for i, k in enumerate(_evenly(len(arm.steps), TILES)):
            x, step = corner[0] + i * (TILE + TILE_GAP), arm.steps[k]
            masks = step.own[index].numpy(), step.other[index].numpy()
            canvas.paste(token_tile(arm.images[index], *masks, name, self._tile), (x, corner[1]))
            middle, below = x + TILE // 2, corner[1] + self._tile[1]
            draw.text((middle, below + 3), str(step.number + 1), GREY, font(11), anchor="ma")
            draw.text((middle, below + 17), f"{arm.overlap[k, index]:.2f}", GREY, font(11), anchor="ma")

    def _footer(self, draw: ImageDraw.ImageDraw, top: int, rows: int) -> None:
        x = MARGIN
        for name in COMPARED:
            other = other_of(name)
            draw.rectangle((x, top + 1, x + 12, top + 13), fill=COLOURS[name])
            label = f"blurred by {TITLES[name]}"
            draw.text((x + 18, top), label, INK, font(12))
            x += 18 + int(font(12).getlength(label)) + 22
            draw.ellipse((x + 3, top + 4, x + 9, top + 10), fill=COLOURS[other])
            label = f"only {TITLES[other]} would blur it"
            draw.text((x + 16, top), label, INK, font(12))
            x += 16 + int(font(12).getlength(label)) + 30
        shown = f"{rows} of {len(self.jobs)} images. " if rows < len(self.jobs) else ""
        note = f"{shown}Both masks are of the same attention; IoU: mean over steps and images, 95 % interval."
        draw.text((MARGIN, top + 20), note, GREY, font(11))
        draw.text((MARGIN, top + 37), shortened(self.caption, WIDTH - 2 * MARGIN, 11), GREY, font(11))


def _evenly(total: int, count: int) -> list[int]:
    """Up to `count` of the indices below `total`, evenly spread, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, total - 1, min(total, count))})
