"""The area under a curve."""

import numpy as np
import pytest

from eval.metrics.auc import area_under_curve


def test_it_is_the_trapezoid_over_the_span():
    fractions = [0.1, 0.2, 0.5, 0.9]
    values = np.random.default_rng(0).random((5, 4))
    expected = np.trapezoid(values, fractions) / 0.8
    np.testing.assert_allclose(area_under_curve(fractions, values), expected)
    np.testing.assert_allclose(area_under_curve(fractions, values.mean(0)), expected.mean())


def test_a_constant_is_its_own_area():
    assert area_under_curve([0.3, 0.4, 1.0], [0.7, 0.7, 0.7]) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("fractions", "values", "message"),
    [
        ([0.5], [1.0], "at least two"),
        ([0.5, 0.5], [1.0, 1.0], "and rise"),
        ([0.5, 0.4], [1.0, 1.0], "and rise"),
        ([0.1, float("nan")], [1.0, 1.0], "and rise"),
        ([0.1, 0.2], [1.0, 1.0, 1.0], r"shaped \(3,\), expected \(..., 2\)"),
        ([0.1, 0.2], 1.0, r"expected \(..., 2\)"),
    ],
)
def test_mistakes(fractions, values, message):
    with pytest.raises(ValueError, match=message):
        area_under_curve(fractions, values)
