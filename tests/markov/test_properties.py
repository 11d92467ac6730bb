"""Properties that hold for every chain."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenrank_guidance.markov import (
    PowerIteration,
    column_sum,
    multi_bounce,
    second_eigenvalue,
    stationary_distribution,
    tokenrank,
)

from .chains import damped_stationary

SOLVER = PowerIteration(tol=1e-11)
DAMPING = st.floats(0.05, 0.95)


@st.composite
def sparse_chains(draw, batch=1):
    """Row-stochastic ``(batch, n, n)`` with many exact zeros: reducible, periodic, absorbing ones too."""
    n = draw(st.integers(1, 6))
    row = st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any)
    counts = draw(st.lists(st.lists(row, min_size=n, max_size=n), min_size=batch, max_size=batch))
    counts = torch.tensor(counts, dtype=torch.float64)
    return counts / counts.sum(-1, keepdim=True)


@settings(deadline=None, max_examples=60)
@given(sparse_chains(), DAMPING)
def test_damping_makes_every_chain_converge_to_its_eigenvector(chains, damping):
    result = stationary_distribution(chains, damping=damping, solver=SOLVER)
    assert result.converged.all()
    assert (result.value >= 0).all()
    torch.testing.assert_close(result.value.sum(-1), torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(result.value, damped_stationary(chains, damping), atol=1e-9, rtol=0)


@settings(deadline=None, max_examples=40)
@given(sparse_chains(), st.sampled_from(["outgoing", "incoming"]), st.integers(0, 4), st.data())
def test_bounces_keep_mass_and_sign(chains, direction, n, data):
    start = data.draw(st.integers(0, chains.shape[-1] - 1))
    spread = multi_bounce(chains, start, n=n, direction=direction)
    assert (spread >= 0).all()
    torch.testing.assert_close(spread.sum(-1), torch.ones(1, dtype=torch.float64))


@settings(deadline=None, max_examples=40)
@given(sparse_chains(), DAMPING, st.randoms(use_true_random=False))
def test_renaming_the_tokens_renames_the_answer(chains, damping, random):
    order = list(range(chains.shape[-1]))
    random.shuffle(order)
    renamed = chains[:, order][:, :, order]
    for score in (lambda maps: tokenrank(maps, damping=damping), column_sum):
        torch.testing.assert_close(score(renamed), score(chains)[..., order], atol=1e-5, rtol=0)
    for direction in ("outgoing", "incoming"):
        spread = multi_bounce(chains, order[0], direction=direction)
        torch.testing.assert_close(multi_bounce(renamed, 0, direction=direction), spread[..., order])


@settings(deadline=None, max_examples=40)
@given(sparse_chains(batch=3), DAMPING)
def test_a_chain_does_not_see_its_batch(chains, damping):
    together = stationary_distribution(chains, damping=damping)
    for i, chain in enumerate(chains):
        alone = stationary_distribution(chain, damping=damping)
        torch.testing.assert_close(together.value[i], alone.value, atol=1e-14, rtol=0)
        torch.testing.assert_close(second_eigenvalue(chains)[i], second_eigenvalue(chain), atol=1e-12, rtol=0)
        torch.testing.assert_close(multi_bounce(chains, 0)[i], multi_bounce(chain, 0), atol=1e-14, rtol=0)


@settings(deadline=None, max_examples=40)
@given(sparse_chains())
def test_second_eigenvalue_is_in_the_unit_interval(chains):
    value = second_eigenvalue(chains)
    assert (value >= 0).all() and (value <= 1).all()
