"""Broadcasting, against torch's own."""

import subprocess
import sys
from itertools import product

import pytest
import torch

from tokenrank_guidance.markov.shapes import broadcast_shapes, broadcasts, expands

SIZES = [(), (0,), (1,), (3,), (2, 3), (2, 1), (0, 1), (4, 1, 3), (4, 2, 1)]


@pytest.mark.parametrize(("left", "right"), list(product(SIZES, SIZES)))
def test_torch_agrees(left, right):
    try:
        expected = tuple(torch.broadcast_shapes(left, right))
    except RuntimeError:
        assert not broadcasts(left, right) and not expands(left, right)
        with pytest.raises(ValueError, match="do not broadcast"):
            broadcast_shapes(left, right)
    else:
        assert broadcast_shapes(left, right) == broadcast_shapes(left, right, ()) == expected
        assert broadcasts(left, right) and expands(left, right) == (expected == right)


@pytest.mark.extended
def test_a_first_ranking_imports_no_computer_algebra():
    """It would take longer than ranking a thousand times."""
    program = (
        "import sys, torch; from tokenrank_guidance.markov import *; q = torch.randn(1, 2, 9, 4);"
        "tokenrank(AttentionTransition(q, q, 0.5), head_weights='lambda2');"
        "multi_bounce(AttentionTransition(q, q, 0.5), 0);"
        "sys.exit(bool({'sympy', 'torch._dynamo', 'torch._inductor'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
