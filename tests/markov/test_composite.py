import pytest
import torch

from tokenrank_guidance.markov import DenseTransition, MixtureTransition, RestrictedTransition, as_operator

from .chains import incoming, random_attention, random_weights, restricted
from .contract import OperatorContract


class TestMixtureOfSharedWeights(OperatorContract):
    def make(self):
        heads, weights = random_attention(2, 3, 6), random_weights(3)
        matrix = torch.einsum("h,bhij->bij", weights / weights.sum(), heads)
        return MixtureTransition(DenseTransition(heads), weights), matrix


class TestMixtureOfWeightsPerImage(OperatorContract):
    def make(self):
        heads, weights = random_attention(2, 3, 5, seed=7), random_weights(2, 3)
        matrix = torch.einsum("bh,bhij->bij", weights / weights.sum(-1, keepdim=True), heads)
        return MixtureTransition(DenseTransition(heads), weights), matrix


class TestMixtureToASingleChain(OperatorContract):
    tolerance = 3e-6

    def make(self):
        heads = random_attention(4, 6, seed=8, dtype=torch.float32)
        return MixtureTransition(DenseTransition(heads), torch.ones(4)), heads.double().mean(0)


class TestRestricted(OperatorContract):
    def make(self):
        full, tokens = random_attention(2, 3, 9), torch.tensor([8, 0, 3, 4, 6])
        return RestrictedTransition(DenseTransition(full), tokens), restricted(full, tokens)


class TestRestrictedMixture(OperatorContract):
    def make(self):
        heads, tokens = random_attention(2, 3, 9, seed=9), torch.tensor([1, 2, 5, 7, 8])
        mixture = MixtureTransition(DenseTransition(heads), torch.ones(3))
        return mixture.restrict(tokens), restricted(heads.mean(1), tokens)


def test_incoming_of_a_mixture_is_not_the_mixture_of_incomings():
    heads = random_attention(3, 6)
    mixture = MixtureTransition(as_operator(heads), torch.ones(3))
    start = torch.eye(6, dtype=torch.float64)[2]
    actual = mixture.apply_incoming(start)
    torch.testing.assert_close(actual, incoming(heads.mean(0))[2])
    assert (actual - incoming(heads).mean(0)[2]).abs().max() > 1e-2


def test_a_row_of_a_mixture_keeps_the_mass_that_any_head_leaves_it():
    away = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    heads = as_operator(torch.stack([away, torch.eye(2, dtype=torch.float64)]))
    first = torch.tensor([0])
    with pytest.raises(ValueError, match=r"row \[0, 0\] .* no mass left"):
        heads.restrict(first)
    assert MixtureTransition(heads, torch.ones(2)).restrict(first).to_dense().item() == 1.0
    with pytest.raises(ValueError, match=r"row \[0\] .* no mass left"):
        MixtureTransition(heads, torch.tensor([1.0, 0.0])).restrict(first)


@pytest.mark.parametrize("make", [MixtureTransition, lambda operator, weights: operator.mix(weights)])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.tensor([1.0, -1.0, 1.0]), r"head_weights: values in \[-1, 1\], expected finite, non-negative"),
        (torch.tensor([1.0, float("nan"), 1.0]), r"head_weights: values in \[nan, nan\]"),
        (torch.tensor([1.0, float("inf"), 1.0]), r"head_weights: values in \[1, inf\]"),
        (torch.zeros(3), "head_weights: all zero"),
        (torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]), "head_weights: all zero"),
        (torch.ones(4), r"head_weights: shape \(4,\), expected \(3,\) or \(2, 3\)"),
        (torch.ones(1), r"head_weights: shape \(1,\), expected \(3,\)"),
        (torch.ones(5, 2, 3), r"head_weights: shape \(5, 2, 3\)"),
    ],
)
def test_head_weights_refused(make, weights, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make(DenseTransition(random_attention(2, 3, 4)), weights)
