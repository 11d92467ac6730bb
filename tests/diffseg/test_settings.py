"""What can be chosen."""

import pytest
import torch

from diffseg import REFERENCE, Settings
from diffseg.settings import make_settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": "best"}, "anchors: got 'best', expected one of"),
        ({"num_anchors": 0}, "num_anchors: got 0, expected a whole number ≥ 1"),
        ({"kl_threshold": 0}, "kl_threshold: got 0, expected a number > 0, 3 of them, or 'auto'"),
        ({"kl_threshold": "low"}, "kl_threshold: got 'low'"),
        ({"kl_threshold": (1.0, 2.0), "merges": 3}, r"kl_threshold: got \(1.0, 2.0\), expected"),
        ({"kl_threshold": float("nan")}, "kl_threshold: got nan"),
        ({"timestep": 1000}, "timestep: got 1000"),
        ({"refine": "crf"}, "refine: got 'crf', expected None or 'kmeans'"),
        ({"damping": 1.0}, "damping: got 1.0"),
        ({"dtype": torch.float16}, "dtype: got torch.float16"),
        ({"resolution": 0}, "resolution: got 0"),
        ({"anchor": "uniform"}, "unknown setting anchor; expected some of anchors, num_anchors"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_settings("default", changes)


def test_presets():
    assert make_settings("default", {}) == Settings()
    assert make_settings("reference", {"num_anchors": 64}).anchors == REFERENCE.anchors
    with pytest.raises(ValueError, match="preset: got 'best', expected one of default, reference"):
        make_settings("best", {})


def test_thresholds_for_each_merge_say_how_many_merges():
    settings = make_settings("default", {"kl_threshold": [0.9, 1.1]})
    assert (settings.merges, settings.thresholds) == (2, (0.9, 1.1))
    assert make_settings("default", {"kl_threshold": 1, "merges": 4}).thresholds == (1.0,) * 4
    assert Settings().thresholds is None
