"""Where merging starts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseg.maps.anchors import ANCHORS, AnchorRequest, cells, choose_anchors

OURS = [name for name in ANCHORS if name != "reference"]


def request(grid, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rank = torch.rand(grid[0] * grid[1], generator=generator)
    return AnchorRequest(rank / rank.sum(), grid, count, torch.Generator().manual_seed(seed))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_cells_are_rectangles_that_tile_any_grid_exactly(height, width, data):
    count = data.draw(st.integers(1, height * width))
    numbers = cells((height, width), count).view(height, width)
    assert numbers.unique().tolist() == list(range(count))
    for number in range(count):
        rows, columns = (numbers == number).nonzero().unbind(1)
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert area == len(rows)


def test_cells_are_near_square():
    numbers = cells((32, 64), 100).view(32, 64)
    for number in range(100):
        rows, columns = (numbers == number).nonzero().unbind(1)
        tall, wide = (rows.max() - rows.min() + 1).item(), (columns.max() - columns.min() + 1).item()
        assert 0.5 <= tall / wide <= 2


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("grid", [(16, 16), (7, 23), (1, 31), (31, 1)])
@pytest.mark.parametrize("count", [1, 10, 17])
def test_any_count_on_any_grid(name, grid, count):
    anchors = choose_anchors(name, request(grid, count))
    assert len(anchors) == len(anchors.unique()) == count
    assert anchors.min() >= 0 and anchors.max() < grid[0] * grid[1]


@pytest.mark.parametrize("name", OURS)
def test_more_anchors_than_tokens_is_every_token(name):
    assert choose_anchors(name, request((3, 5), 256)).sort().values.tolist() == list(range(15))


def test_grid_takes_the_best_token_of_every_cell():
    asked = request((12, 20), 15)
    numbers = cells((12, 20), 15)
    expected = [
        max((i for i in range(240) if numbers[i] == cell), key=lambda i: asked.rank[i]) for cell in range(15)
    ]
    assert choose_anchors("tokenrank-grid", asked).tolist() == expected


def test_equal_ranks_take_the_first_token():
    flat = AnchorRequest(torch.full((16,), 1 / 16), (4, 4), 4, torch.Generator())
    assert choose_anchors("tokenrank-grid", flat).tolist() == [0, 2, 8, 10]
    assert choose_anchors("tokenrank-topk", flat).tolist() == [0, 1, 2, 3]


def test_topk_is_ordered_by_rank():
    asked = request((8, 8), 9)
    assert (
        choose_anchors("tokenrank-topk", asked).tolist() == asked.rank.argsort(descending=True)[:9].tolist()
    )


def test_suppression_keeps_anchors_apart_and_starts_with_the_best():
    asked = request((20, 20), 16)
    anchors = choose_anchors("tokenrank-nms", asked)
    assert anchors[0] == asked.rank.argmax()
    places = torch.stack([anchors // 20, anchors % 20], -1).float()
    apart = torch.cdist(places, places).fill_diagonal_(math.inf)
    assert apart.min() >= 5 / 2
    nearest_of_top = torch.cdist(places[:4], places[:4]).fill_diagonal_(math.inf).min()
    assert nearest_of_top >= 5


def test_sampling_follows_the_seed_and_the_rank():
    first, again, other = (
        choose_anchors("tokenrank-sample", request((9, 9), 12, seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    rank = torch.full((100,), 1e-9)
    rank[::10] = 0.1
    chosen = choose_anchors(
        "tokenrank-sample", AnchorRequest(rank, (10, 10), 10, torch.Generator().manual_seed(3))
    )
    assert sorted(chosen.tolist()) == list(range(0, 100, 10))


def test_a_function_of_ones_own():
    assert choose_anchors(lambda asked: torch.tensor([3, 1]), request((2, 2), 2)).tolist() == [3, 1]
    with pytest.raises(ValueError, match=r"indices span \[1, 4\]"):
        choose_anchors(lambda asked: torch.tensor([4, 1]), request((2, 2), 2))
    with pytest.raises(ValueError, match="an index occurs twice"):
        choose_anchors(lambda asked: torch.tensor([1, 1]), request((2, 2), 2))


def test_reference_grid_refuses_what_it_cannot_place():
    with pytest.raises(ValueError, match="perfect square of at most 8²"):
        choose_anchors("reference", request((8, 12), 256))
    with pytest.raises(ValueError, match="num_anchors: got 10"):
        choose_anchors("reference", request((8, 12), 10))
    assert choose_anchors("reference", request((8, 12), 1)).tolist() == [3 * 12 + 5]


def test_unknown_name():
    with pytest.raises(ValueError, match="got 'best', expected one of tokenrank-grid"):
        choose_anchors("best", request((2, 2), 1))
