"""Pipelines of every age are tried, whose own warnings are no fault of guidance."""

import warnings
from collections.abc import Iterator

import diffusers
import pytest


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What diffusers deprecates, half precision on a CPU and casts of parts are the pipelines' own affair."""
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)
        warnings.filterwarnings("ignore", "Safety checker disabled", UserWarning)
        warnings.filterwarnings("ignore", "In CPU autocast", UserWarning)
        warnings.filterwarnings("ignore", "(?s).*functools.lru_cache", UserWarning)  # of what Dynamo traces
        yield
    diffusers.utils.logging.set_verbosity(verbosity)
