"""The names that parsers know without torch are those of the registries that need it."""

from eval.fidelity import choices as fidelity
from eval.fidelity.metrics import METRICS
from eval.masking import choices as masking
from eval.masking.scorers import SCORERS


def test_masking_scorers():
    assert list(masking.SCORER_NAMES) == list(SCORERS)
    assert [name for name in SCORERS if SCORERS[name].reads != "one layer"] == list(masking.OF_NO_LAYER)


def test_metrics_of_fidelity():
    assert set(fidelity.METRICS) == set(METRICS)
