"""The comparison picture keeps its shape and size."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tokenrank_guidance.calls import Job
from tokenrank_guidance.cli.arms import Arm
from tokenrank_guidance.cli.comparison import Comparison
from tokenrank_guidance.cli.overlap import StepMasks
from tokenrank_guidance.cli.tiles import COLOURS, distance, token_tile


def noise(count: int, size: tuple[int, int], seed: int) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    return [Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)) for _ in range(count)]


def arm(name: str, count: int, size=(64, 64), steps: int = 24) -> Arm:
    generator = torch.Generator().manual_seed(len(name))
    masks = [torch.rand(2, count, 8, 8, generator=generator) > 0.5 for _ in range(steps)]
    guided = [StepMasks(i, 0.0, own, other) for i, (own, other) in enumerate(masks)]
    return Arm(name, noise(count, size, len(name)), [] if name == "none" else guided, 1.0, 1)


def comparison(prompts: int, each: int, **options) -> Comparison:
    arms = {name: arm(name, prompts * each, **options) for name in ("none", "sag", "tokenrank")}
    jobs = [Job(f"prompt {p}", seed) for p in range(prompts) for seed in range(each)]
    return Comparison(arms, jobs, "a tiny model")


@pytest.mark.parametrize(
    ("prompts", "each", "rows"),
    [
        (1, 1, [0]),
        (1, 9, [0, 1, 2, 3]),
        (2, 3, [0, 1, 3, 4]),
        (4, 2, [0, 2, 4, 6]),
        (9, 1, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_rows_are_all_of_few_prompts_and_the_first_of_many(prompts, each, rows):
    assert comparison(prompts, each).rows() == rows


@pytest.mark.parametrize("size", [(64, 64), (96, 48), (512, 768)])
def test_picture_is_as_wide_whatever_the_images(size):
    picture = comparison(1, 1, size=size).picture()
    assert picture.width == 1080
    assert picture.height == pytest.approx(300 + 256 * size[1] / size[0], abs=80)


def test_picture_stays_small_even_of_noise():
    data = io.BytesIO()
    comparison(4, 2).picture().save(data, "PNG", optimize=True)
    assert data.tell() < 1.6e6


@pytest.mark.parametrize("steps", [0, 1, 3, 50])
def test_any_number_of_guided_steps_fits(steps):
    assert comparison(1, 2, steps=steps).picture().width == 1080


def test_long_and_foreign_prompts_fit():
    arms = {name: arm(name, 1) for name in ("none", "sag", "tokenrank")}
    assert Comparison(arms, [Job("a très long Приветствие " * 40, 0)], "x" * 900).picture().width == 1080


def test_tile_is_coloured_where_its_arm_blurs_and_dotted_where_only_the_other_does():
    own, other = np.array([[True, False]]), np.array([[False, True]])
    tile = np.asarray(token_tile(Image.new("RGB", (8, 4)), own, other, "sag", (64, 32))).astype(int)
    blue, orange = np.array(COLOURS["sag"]), np.array(COLOURS["tokenrank"])
    assert abs(tile[16, 10] - blue).sum() < abs(tile[4, 40] - blue).sum()
    assert np.array_equal(tile[16, 48], orange)
    assert tile[4, 40].std() == 0


def test_distance_is_a_fraction_of_the_range():
    black, white = Image.new("RGB", (2, 3)), Image.new("RGB", (2, 3), "white")
    assert np.array_equal(distance(black, white), np.ones((3, 2)))
