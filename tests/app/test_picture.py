"""A view as one picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from tokenrank_guidance.app.picture import picture_of
from tokenrank_guidance.app.scene import Heat, Scene, Tile

FACT = "up_blocks.1.attentions.1.transformer_blocks.0.attn1"


def walk(shown, facts=()):
    heats = tuple(Heat.of(f"{n} bounces", torch.eye(4)) for n in (2, 3))
    picture = Image.new("RGB", (32, 32))
    return Scene("walk", picture, "Where attention leads", facts, heats, shown, grid=(4, 4), total=16)


def test_the_picture_of_a_walk_says_how_far_it_went():
    """The maps of both are the same."""
    first, second = (np.asarray(picture_of(walk(shown))) for shown in (0, 1))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)


def test_facts_that_do_not_fit_into_a_line_begin_another():
    one, two, four = (picture_of(walk(0, (FACT,) * count)) for count in (1, 2, 4))
    assert one.width == two.width == four.width
    assert two.height - one.height == (four.height - one.height) / 3 > 0


@pytest.mark.parametrize("layer", [FACT, "single_transformer_blocks.37.attn", "encoder.layer.11.attention"])
@pytest.mark.parametrize("size", [(64, 64), (32, 480), (480, 32)])
def test_the_picture_of_heads_tells_their_layers_heads_and_lambda2(layer, size):
    """Whatever the picture's shape: each of the three changes what is written."""

    def drawn(layer, head, lambda2):
        tile = Tile(layer, head, lambda2, Heat.of("", torch.eye(4)))
        picture = Image.new("RGB", size)
        return np.asarray(picture_of(Scene("heads", picture, "Heads", tiles=(tile,) * 7, grid=(4, 4))))

    one = drawn(layer, 3, 0.953)
    another = layer.replace("1", "2").replace("37", "36")
    for other in (drawn(another, 3, 0.953), drawn(layer, 4, 0.953), drawn(layer, 3, 0.954)):
        assert other.shape == one.shape
        assert not np.array_equal(other, one)
