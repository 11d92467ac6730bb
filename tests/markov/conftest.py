import jaxtyping
import pytest


@pytest.fixture
def unchecked():
    """Let malformed arguments past the annotation checks of the tests, to the errors that a user sees."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
