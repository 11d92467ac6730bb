import pytest
import torch

from tokenrank_guidance.markov import DenseTransition, as_operator

from .chains import random_attention


class Record:
    def transition(self):
        return DenseTransition(random_attention(2, 3, 4))


def test_an_operator_is_itself():
    operator = DenseTransition(random_attention(4))
    assert as_operator(operator) is operator


def test_a_tensor_is_dense():
    matrix = random_attention(2, 4)
    torch.testing.assert_close(as_operator(matrix).to_dense(), matrix)


def test_anything_with_a_transition_gives_it():
    assert as_operator(Record()).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("maps", [[random_attention(3)], None, "mean"])
def test_anything_else_is_refused(maps, unchecked):
    with pytest.raises(TypeError, match=f"maps: got {type(maps).__name__}, expected an AttentionRecord"):
        as_operator(maps)
