import pytest
import torch
from torch.overrides import _get_current_function_mode_stack


@pytest.fixture(autouse=True)
def clean_mode_stack():
    """No test may leave a torch function mode behind."""
    yield
    assert _get_current_function_mode_stack() == []


@pytest.fixture
def no_gradients():
    with torch.no_grad():
        yield
