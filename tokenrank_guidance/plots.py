"""Figures of captured attention: what its tokens are worth, where it leads, which heads hold structure.

Each takes `AttentionRecord`s as `capture` gives them, of any model, and returns a matplotlib figure:
`tokenrank_figure(maps[-1]).savefig("rank.png")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.markov import mix_heads, multi_bounce, tokenrank_score
from tokenrank_guidance.markov.bounce import Direction
from tokenrank_guidance.markov.heads import HeadWeights, rough_second_eigenvalue
from tokenrank_guidance.markov.precision import float64_on_cpu
from tokenrank_guidance.messages import counted
from tokenrank_guidance.videos import RankedVideo, frame_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

SIDE, COLOURS = 2.4, "magma"  # inches
ENDS = (0.01, 0.99)  # quantiles of a map that are darkest and brightest; attention sinks are clipped
WRITTEN = 400  # values that still fit into their cells


@torch.no_grad()
def tokenrank_figure(
    record: AttentionRecord, *, damping: float = 0.99, head_weights: HeadWeights = "mean", batch: int = 0
) -> Figure:
    """N·π of the chain over image tokens, mean 1, on their grid, with a colour bar.

    `batch`: which picture. Raises ValueError for a record without a grid, IndexError for another `batch`, and
    what `tokenrank_score` raises.
    """
    image = _of(record, batch).restrict("image")
    score = tokenrank_score(image, damping=damping, head_weights=head_weights)[0]
    figure, (panel,) = _panels(1, image)
    shown = _show(panel, score.unflatten(-1, _grid(image)), "TokenRank")
    figure.colorbar(shown, ax=panel, label="N·π (mean 1)", shrink=0.85)
    return figure


@torch.no_grad()
def video_figure(
    record: AttentionRecord,
    frames: Sequence[Image.Image] = (),
    *,
    damping: float = 0.99,
    head_weights: HeadWeights = "mean",
    batch: int = 0,
) -> Figure:
    """N·π of a video's tokens, mean 1: a strip of its frames of latents in one scale, with a colour bar.

    `frames`: the video's, of which those that stand for the latents' lie under the maps. `batch`: which
    video. Raises IndexError for another `batch`, and what `frame_scores` raises.
    """
    scores = frame_scores(record, damping=damping, head_weights=head_weights)
    ranked = RankedVideo(list(frames), scores[range(len(scores))[batch]])
    count, height, width = ranked.scores.shape
    figure, panels = _strip(count, height, width)
    ends = torch.quantile(float64_on_cpu(ranked.scores), torch.tensor(ENDS, dtype=torch.float64)).tolist()
    for i, panel in enumerate(panels):
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        if frames:
            panel.imshow(np.asarray(ranked.shown()[i]), extent=extent)
        values = float64_on_cpu(ranked.scores[i]).numpy()
        options = {"alpha": 0.6, "interpolation": "bilinear"} if frames else {}
        shown = panel.imshow(values, cmap=COLOURS, vmin=ends[0], vmax=ends[1], extent=extent, **options)
        panel.set_title(f"frame {i}, mean {values.mean():.2f}", fontsize=9)
        panel.set_axis_off()
    figure.colorbar(shown, ax=panels, label="N·π (mean 1)", shrink=0.85)
    return figure


@torch.no_grad()
def bounce_figure(
    record: AttentionRecord,
    start: int | tuple[int, int] | Float[Tensor, " tokens"],
    bounces: Sequence[int] = (1, 2, 3, 5),
    *,
    direction: Direction = "outgoing",
    head_weights: HeadWeights = "lambda2",
    batch: int = 0,
) -> Figure:
    """Where walks from `start` are after each number of `bounces`: a strip of maps of the image tokens.

    `start`: a token, counted over all of the record's (text and class tokens too); (row, column) of an image
    token, which is marked; or a distribution over all tokens. A panel's percentage is the mass on image
    tokens. Raises ValueError for a record without a grid, a place outside it, no bounces or negative ones,
    IndexError for another `batch`, and what `multi_bounce` raises.
    """
    chosen = _of(record, batch)
    if not bounces:
        raise ValueError("bounces: got none, expected at least one number of bounces")
    token = _token(chosen, start) if isinstance(start, tuple) else start
    chain = mix_heads(chosen, head_weights)
    figure, panels = _panels(len(bounces), chosen)
    for panel, n in zip(panels, bounces, strict=True):
        x = multi_bounce(chain, token, n, direction).reshape(-1, chosen.tokens).mean(0)[chosen.image]
        _show(panel, x.unflatten(-1, _grid(chosen)), _title(n, direction, float(x.sum())))
        if isinstance(start, tuple):
            panel.plot(start[1], start[0], "o", ms=6, mfc="none", mec="cyan", mew=1.5)
    return figure


@torch.no_grad()
def lambda2_figure(records: Sequence[AttentionRecord] | AttentionRecord, *, batch: int = 0) -> Figure:
    """λ2 of each head by layer: one row for each record, one column for each head.

    Raises ValueError for no records, IndexError for another `batch`.
    """
    from matplotlib.figure import Figure

    records = (records,) if isinstance(records, AttentionRecord) else records
    if not records:
        raise ValueError("records: got none, expected at least one captured layer")
    rows = [rough_second_eigenvalue(_whole(record, batch))[0].cpu().numpy() for record in records]
    values = np.full((len(rows), max(map(len, rows))), np.nan)
    for line, row in zip(values, rows, strict=True):
        line[: len(row)] = row
    height, width = values.shape
    figure = Figure(figsize=(2.6 + 0.42 * width, 1.1 + 0.3 * height), layout="constrained")
    panel = figure.subplots()
    shown = panel.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    panel.set_yticks(range(height), [record.module or str(i) for i, record in enumerate(records)], fontsize=7)
    panel.set_xticks(range(width))
    panel.set_xlabel("head")
    if values.size <= WRITTEN:
        _write(panel, values)
    figure.colorbar(shown, ax=panel, label="λ2")
    return figure


def _write(panel: Axes, values: Float[np.ndarray, "layers heads"]) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if value > 0.6 else "white"
            panel.text(column, row, f"{value:.2f}", color=colour, fontsize=6, ha="center", va="center")


def _whole(record: AttentionRecord, batch: int) -> AttentionRecord:
    if not isinstance(record, AttentionRecord):
        raise TypeError(f"record: got {type(record).__name__}, expected an AttentionRecord, such as maps[-1]")
    return record.select(batch)


def _of(record: AttentionRecord, batch: int) -> AttentionRecord:
    one = _whole(record, batch)
    _grid(one)
    return one


def _grid(record: AttentionRecord) -> tuple[int, int]:
    if record.plane is None:
        raise ValueError(f"{record.module or 'this record'} has no grid of image tokens to draw on")
    return record.plane


def _title(n: int, direction: str, mass: float) -> str:
    return f"{counted(n, 'bounce')}, {direction}\n{100 * mass:.0f} % on image tokens"


def _token(record: AttentionRecord, place: tuple[int, int]) -> int:
    """The index over all tokens of an image token."""
    height, width = _grid(record)
    if not (0 <= place[0] < height and 0 <= place[1] < width):
        raise ValueError(f"start: {place} is outside the grid of {height}×{width} tokens")
    return (record.image.start or 0) + place[0] * width + place[1]


def _panels(count: int, record: AttentionRecord) -> tuple[Figure, Sequence[Any]]:
    return _strip(count, *_grid(record))


def _strip(count: int, height: int, width: int) -> tuple[Figure, Sequence[Any]]:
    from matplotlib.figure import Figure

    scale = SIDE / max(height, width)
    size = (count * scale * width + 0.9 * (count == 1) + 0.2, scale * height + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _show(panel: Axes, heat: Float[Tensor, "gh gw"], title: str) -> Any:
    values = float64_on_cpu(heat).numpy()
    low, high = np.quantile(values, ENDS)
    shown = panel.imshow(values, cmap=COLOURS, vmin=low, vmax=max(high, low + 1e-12))
    panel.set_title(title, fontsize=9)
    panel.set_axis_off()
    return shown
