"""The classifier of the fidelity tests."""

from tests.eval.fidelity.conftest import classifier

__all__ = ["classifier"]
