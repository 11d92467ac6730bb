from tests.capture.conftest import clean_mode_stack, no_gradients

__all__ = ["clean_mode_stack", "no_gradients"]
