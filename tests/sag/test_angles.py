"""TrigFlow's numbers against what Sana-Sprint's pipeline computes, and rectified flow's definition."""

import math

import pytest
import torch

from sag.angles import angle, denoisers, rectified
from sag.noise import NoiseLevel

UNIT = 0.5


def random(seed):
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("t", [math.pi / 2, 1.3, 0.8, 0.1])
def test_a_pipelines_way_there_and_back(t):
    clean, noise, flow = random(0), random(1), random(2)
    sigma = math.sin(t) / (math.cos(t) + math.sin(t))
    length = math.sqrt(sigma**2 + (1 - sigma) ** 2)
    sample = UNIT * (math.cos(t) * clean + math.sin(t) * noise)
    given = sample / UNIT * length
    torch.testing.assert_close(given, (1 - sigma) * clean + sigma * noise)
    made = UNIT * ((1 - 2 * sigma) * given + (1 - 2 * sigma + 2 * sigma**2) * flow) / length
    assert angle(sigma) == pytest.approx(t)
    found = denoisers(made, sample, torch.full((2,), t, dtype=torch.float64), UNIT)
    torch.testing.assert_close(found, (flow, given))
    of_the_scheduler = math.cos(t) * sample - math.sin(t) * made
    torch.testing.assert_close(UNIT * (given - sigma * flow), of_the_scheduler)


def test_the_level_of_its_input():
    level = rectified(NoiseLevel(math.cos(1.3), math.sin(1.3), "v_prediction"))
    assert level.flow
    assert level.prediction == "flow_prediction"
    assert level.alpha + level.sigma == pytest.approx(1)
    assert angle(level.sigma) == pytest.approx(1.3)
