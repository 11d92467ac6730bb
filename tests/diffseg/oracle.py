"""DiffSeg as PROTOCOLS 3 describes it, in plain NumPy loops: slow, and sharing nothing with `diffseg`."""

import math
from functools import lru_cache

import numpy as np


@lru_cache
def axis_weights(few: int, many: int) -> np.ndarray:
    """(many, few): bilinear interpolation with half-pixel centres, edges repeated."""
    weights = np.zeros((many, few))
    for i in range(many):
        place = (i + 0.5) * few / many - 0.5
        low = math.floor(place)
        for index, share in ((low, 1 - (place - low)), (low + 1, place - low)):
            weights[i, min(max(index, 0), few - 1)] += share
    return weights


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = axis_weights(image.shape[0], size[0]), axis_weights(image.shape[1], size[1])
    return rows @ image @ columns.T


def aggregate(layers: list[tuple[tuple[int, int], np.ndarray]], finest: tuple[int, int]) -> np.ndarray:
    """`layers`: (grid, (heads, n, n)). All maps of a resolution are averaged first, heads averaged."""
    by_grid: dict = {}
    for grid, heads in layers:
        by_grid.setdefault(grid, []).append(heads.mean(0))
    total_side = sum(math.sqrt(h * w) for h, w in by_grid)
    height, width = finest
    result = np.zeros((height, width, height, width))
    for (h, w), maps in by_grid.items():
        mean = np.mean(maps, axis=0)
        fine = np.stack([bilinear(row.reshape(h, w), finest) for row in mean])
        fine /= fine.sum((1, 2), keepdims=True)
        for y in range(height):
            for x in range(width):
                source = int((y + 0.5) * h / height) * w + int((x + 0.5) * w / width)
                result[y, x] += math.sqrt(h * w) / total_side * fine[source]
    return result


def anchor_grid(grid: tuple[int, int], points: int) -> list[tuple[int, int]]:
    axes = []
    for side in grid:
        step = (side - 1) // (points - 1)
        start = (side - 1 - step * (points - 1)) // 2
        axes.append([start + step * i for i in range(points)])
    return [(y, x) for y in axes[0] for x in axes[1]]


def divergence(x: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """½[Σ x(log x − log y) + Σ y(log y − log x)] of one map and each of many."""
    quotient = np.log(x) - np.log(maps)
    return ((x * quotient).sum(-1) - (maps * quotient).sum(-1)) / 2


def merge(maps: np.ndarray, anchors: list[int], thresholds) -> np.ndarray:
    proposals = np.stack([maps[divergence(maps[a], maps) < thresholds[0]].mean(0) for a in anchors])
    for threshold in thresholds[1:]:
        matched: set = set()
        merged = []
        for i in range(len(proposals)):
            if i in matched:
                continue
            near = divergence(proposals[i], proposals) < threshold
            matched.add(i)
            matched.update(np.flatnonzero(near).tolist())
            merged.append(proposals[near].mean(0))  # those matched before are averaged again
        proposals = np.stack(merged)
    return proposals


def segment(chain: np.ndarray, points: int, thresholds, size: tuple[int, int]) -> np.ndarray:
    """`chain`: (h, w, h, w). Labels at `size`."""
    height, width = chain.shape[:2]
    anchors = [y * width + x for y, x in anchor_grid((height, width), points)]
    masks = merge(chain.reshape(height * width, -1), anchors, thresholds)
    return np.stack([bilinear(mask.reshape(height, width), size) for mask in masks]).argmax(0)
