"""A view as one picture."""

import numpy as np
import torch
from PIL import Image

from tokenrank_guidance.app.picture import picture_of
from tokenrank_guidance.app.scene import Heat, Scene

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
