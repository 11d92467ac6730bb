"""The worked example of the paper's poster, to the digits it prints."""

import pytest
import torch

from tokenrank_guidance.markov import PowerIteration, column_sum, multi_bounce, second_eigenvalue, tokenrank
from tokenrank_guidance.markov import stationary_distribution as stationary

from .chains import TOY


def assert_prints_as(actual, *digits):
    torch.testing.assert_close(actual, torch.tensor(digits, dtype=torch.float64), atol=5.1e-5, rtol=0)


def test_the_printed_stationary_vector_is_of_the_undamped_chain():
    value = stationary(TOY, damping=1 - 1e-6, solver=PowerIteration(tol=1e-12)).value
    assert_prints_as(value, 0.2779, 0.0425, 0.0289, 0.2717, 0.3789)


def test_damping_0_99_moves_the_third_digit_and_not_the_order():
    rank = tokenrank(TOY)
    assert_prints_as(rank, 0.2782, 0.0442, 0.0307, 0.2711, 0.3758)
    assert rank.argsort(descending=True).tolist() == [4, 0, 3, 1, 2]


def test_column_sums_rank_state_0_first_where_tokenrank_ranks_state_4():
    sums = column_sum(TOY)
    assert_prints_as(sums, 2.22, 0.24, 0.18, 1.01, 1.35)
    assert sums.argmax() == 0 and tokenrank(TOY).argmax() == 4


def test_second_eigenvalue_is_the_modulus_of_a_complex_pair():
    assert_prints_as(second_eigenvalue(TOY).unsqueeze(0), 0.6261)
    assert_prints_as(
        torch.linalg.eigvals(TOY).abs().sort(descending=True).values, 1, 0.6261, 0.6261, 0.0607, 0.0358
    )


@pytest.mark.parametrize(
    ("n", "digits"),
    [(1, (0.53, 0.03, 0.03, 0.06, 0.35)), (2, (0.2430, 0.0386, 0.0259, 0.4757, 0.2168))],
)
def test_bounces_from_state_4(n, digits):
    assert_prints_as(multi_bounce(TOY, start=4, n=n), *digits)


def test_many_bounces_end_at_the_stationary_vector():
    assert_prints_as(multi_bounce(TOY, start=4, n=60), 0.2779, 0.0425, 0.0289, 0.2717, 0.3789)
