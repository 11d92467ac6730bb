import networkx as nx
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tokenrank_guidance.errors import ConvergenceError, TokenRankError
from tokenrank_guidance.markov import (
    DenseTransition,
    Direct,
    MinimalResidual,
    PowerIteration,
    as_operator,
    stationary_distribution,
)

from .chains import birth_death, cycle, damped_stationary, random_attention, random_weights

TIGHT = PowerIteration(tol=1e-13)


class HostSyncs(TorchDispatchMode):
    """Counts reads of a tensor's value by the host, each of which would stall a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def networkx_pagerank(matrix, damping, personalization=None):
    graph = nx.from_numpy_array(matrix.numpy(), create_using=nx.DiGraph)
    weights = None if personalization is None else dict(enumerate(personalization.tolist()))
    rank = nx.pagerank(graph, alpha=damping, personalization=weights, tol=1e-14, max_iter=10_000)
    return torch.tensor([rank[i] for i in range(len(matrix))], dtype=torch.float64)


@pytest.mark.parametrize("n", [2, 7, 40])
@pytest.mark.parametrize("damping", [0.5, 0.85, 0.99])
@pytest.mark.parametrize("personalized", [False, True])
def test_networkx_agrees_to_1e_8(n, damping, personalized):
    matrix = random_attention(n, seed=n)
    weights = random_weights(n) if personalized else None
    if weights is not None:
        weights[0] = 0
    result = stationary_distribution(matrix, damping=damping, personalization=weights, solver=TIGHT)
    expected = networkx_pagerank(matrix, damping, weights)
    torch.testing.assert_close(result.value, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5,), (3, 8), (2, 3, 16)])
@pytest.mark.parametrize("damping", [0.3, 0.99])
def test_eigenvector_of_the_damped_matrix(dtype, shape, damping):
    matrix = random_attention(*shape, dtype=dtype)
    solver = TIGHT if dtype == torch.float64 else PowerIteration(tol=3e-7)
    result = stationary_distribution(matrix, damping=damping, solver=solver)
    assert result.value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert result.value.shape == shape
    assert result.converged.shape == result.steps.shape == result.residual.shape == shape[:-1]
    assert result.converged.all() and (result.residual <= solver.tol).all()
    exact = as_operator(matrix).to_dense()
    atol = 1e-11 if dtype == torch.float64 else 5e-6
    torch.testing.assert_close(result.value.double(), damped_stationary(exact, damping), atol=atol, rtol=0)


def test_two_states_in_closed_form():
    result = stationary_distribution(birth_death(0.3, 0.1), damping=1 - 1e-9, solver=TIGHT)
    torch.testing.assert_close(
        result.value, torch.tensor([0.25, 0.75], dtype=torch.float64), atol=1e-8, rtol=0
    )


@pytest.mark.parametrize("damping", [0.5, 0.9, 0.99])
def test_true_error_is_within_the_documented_bound(damping):
    start = torch.eye(6, dtype=torch.float64)[0]
    for matrix in (cycle(6), random_attention(6), random_attention(6, sharpness=8.0)):
        result = stationary_distribution(
            matrix, damping=damping, start=start, solver=PowerIteration(tol=1e-4)
        )
        error = (result.value - damped_stationary(matrix, damping)).abs().sum()
        assert error <= damping / (1 - damping) * result.residual * (1 + 1e-9)


def test_residual_is_the_last_step():
    matrix = random_attention(5)
    solvers = [PowerIteration(tol=1e-15, max_steps=k, raise_on_failure=False) for k in (3, 4)]
    third, fourth = (stationary_distribution(matrix, solver=solver) for solver in solvers)
    assert not fourth.converged and fourth.steps == 4
    torch.testing.assert_close(fourth.residual, (fourth.value - third.value).abs().sum())


@pytest.mark.parametrize(("n", "dtype"), [(2, torch.float32), (2, torch.float64), (64, torch.float32)])
def test_the_default_steps_suffice_for_a_periodic_chain_at_damping_0_999(n, dtype):
    start = torch.eye(n)[0]
    result = stationary_distribution(cycle(n).to(dtype), damping=0.999, start=start, solver=PowerIteration())
    torch.testing.assert_close(result.value, torch.full((n,), 1 / n, dtype=dtype), atol=1e-3, rtol=0)
    assert n != 2 or result.steps > 14_000, "the slowest chain there is"


def test_a_reducible_chain_splits_its_mass_by_the_personalization():
    blocks = torch.block_diag(birth_death(0.3, 0.1), birth_death(0.2, 0.2))
    weights = torch.tensor([3.0, 3.0, 1.0, 1.0])
    value = stationary_distribution(blocks, damping=0.9, personalization=weights, solver=TIGHT).value
    torch.testing.assert_close(value[:2].sum(), torch.tensor(0.75, dtype=torch.float64))
    torch.testing.assert_close(value, damped_stationary(blocks, 0.9, weights))


def test_an_absorbing_state_takes_all_but_the_teleport():
    matrix = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    value = stationary_distribution(matrix, damping=0.99, solver=TIGHT).value
    torch.testing.assert_close(value[1], torch.tensor(0.005 / (1 - 0.495), dtype=torch.float64))


@pytest.mark.parametrize("solver", [MinimalResidual(), Direct()])
@pytest.mark.parametrize("damping", [0.99, 0.999])
def test_float32_does_not_stall_on_chains_that_mix_slowly(damping, solver):
    """Iterating a float32 x itself stops short of the default tolerance on a tenth of these chains."""
    matrix = random_attention(300, 3, dtype=torch.float32, sharpness=6.0)
    result = stationary_distribution(matrix, damping=damping, solver=solver)
    assert (result.residual <= 1e-6).all()
    error = (result.value - damped_stationary(as_operator(matrix).to_dense(), damping)).abs().sum(-1)
    assert error.max() < 2e-6 / (1 - damping)
    assert error.median() < 1e-6
    torch.testing.assert_close(result.value.sum(-1), torch.ones(300), atol=3e-7, rtol=0)


def test_rows_that_miss_one_by_rounding_cost_no_steps():
    """In float32 the rows of a large chain sum to 1 within 1e-6; here the effect is made larger."""

    class Inexact(DenseTransition):
        def apply(self, x):
            return super().apply(x) * (1 + 1e-5)

    matrix = random_attention(8)
    exact, inexact = (
        stationary_distribution(chain, solver=MinimalResidual()) for chain in (matrix, Inexact(matrix))
    )
    assert abs(int(inexact.steps - exact.steps)) <= 1
    torch.testing.assert_close(inexact.value, exact.value, atol=1e-5, rtol=0)


@pytest.mark.parametrize("solver", [MinimalResidual(), Direct()])
def test_mass_that_drains_away_leaves_no_negative_rounding(solver):
    stay = torch.linspace(0.05, 0.95, 50)
    matrix = torch.zeros(50, 2, 2)
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1] = stay, 1 - stay, 1
    first, second = torch.eye(2)
    value = stationary_distribution(matrix, start=first, personalization=second, solver=solver).value
    assert (value >= 0).all()
    torch.testing.assert_close(value, second.expand(50, 2), atol=1e-4, rtol=0)


def test_large_float32_chain_keeps_its_mass():
    value = stationary_distribution(random_attention(2048, dtype=torch.float32), damping=0.999).value
    torch.testing.assert_close(value.sum(), torch.tensor(1.0), atol=1e-6, rtol=0)


def test_personalization_is_per_chain_and_scale_free():
    matrix, weights = random_attention(2, 5), random_weights(2, 5)
    result = stationary_distribution(matrix, damping=0.8, personalization=weights, solver=TIGHT)
    expected = torch.stack([damped_stationary(matrix[i], 0.8, weights[i]) for i in range(2)])
    torch.testing.assert_close(result.value, expected)
    for scale in (1e-300, 1e308):
        scaled = stationary_distribution(matrix, damping=0.8, personalization=weights * scale, solver=TIGHT)
        torch.testing.assert_close(scaled.value, expected)


def test_several_personalizations_of_one_chain():
    matrix, weights = random_attention(5), random_weights(3, 5)
    result = stationary_distribution(matrix, damping=0.8, personalization=weights, solver=TIGHT)
    assert result.value.shape == (3, 5)
    torch.testing.assert_close(result.value, damped_stationary(matrix, 0.8, weights))


@pytest.mark.parametrize("solver", [PowerIteration(), MinimalResidual()])
def test_each_chain_stops_for_itself(solver):
    slow, fast = random_attention(8, sharpness=6.0), 0.99 / 8 + 0.01 * random_attention(8)
    both = stationary_distribution(torch.stack([slow, fast]), solver=solver)
    alone = [stationary_distribution(chain, solver=solver) for chain in (slow, fast)]
    assert both.steps.tolist() == [int(each.steps) for each in alone]
    assert both.steps[0] > 2 * both.steps[1]
    for name in ("value", "residual"):
        torch.testing.assert_close(getattr(both, name), torch.stack([getattr(each, name) for each in alone]))


def test_partial_convergence_is_told_per_chain():
    solver = PowerIteration(max_steps=20, raise_on_failure=False)
    result = stationary_distribution(
        torch.stack([birth_death(0.001, 0.002), birth_death(0.5, 0.4)]), solver=solver
    )
    assert result.converged.tolist() == [False, True]
    assert result.steps[0] == 20 and result.steps[1] < 20


def test_a_warm_start_needs_fewer_steps_and_ends_at_the_same_place():
    matrix = random_attention(2, 3, 32, sharpness=4.0)
    cold = stationary_distribution(matrix, solver=PowerIteration(tol=1e-10))
    drifted = 0.99 * matrix + 0.01 * random_attention(2, 3, 32, seed=5)
    warm = stationary_distribution(drifted, start=cold.value, solver=PowerIteration(tol=1e-10))
    again = stationary_distribution(drifted, solver=PowerIteration(tol=1e-10))
    assert (warm.steps < again.steps).all()
    torch.testing.assert_close(warm.value, again.value, atol=1e-8, rtol=0)
    done = stationary_distribution(matrix, start=cold.value, solver=MinimalResidual())
    assert (done.steps == 1).all()


def test_check_every_changes_no_result():
    matrix = random_attention(3, 12)
    every = stationary_distribution(matrix, solver=PowerIteration(check_every=1))
    seldom = stationary_distribution(matrix, solver=PowerIteration(check_every=50))
    for name in ("value", "converged", "steps", "residual"):
        assert torch.equal(getattr(every, name), getattr(seldom, name))


def test_the_host_waits_for_the_device_only_every_few_steps():
    operator = as_operator(birth_death(0.01, 0.02))
    counts = {}
    for check_every in (1, 8):
        with HostSyncs() as syncs:
            steps = stationary_distribution(operator, solver=PowerIteration(check_every=check_every)).steps
        counts[check_every] = syncs.count
    assert steps > 80
    assert counts[1] >= steps
    assert counts[8] <= steps / 8 + 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu():
    matrix = random_attention(2, 3, 64, dtype=torch.float16)
    result = stationary_distribution(matrix.cuda())
    expected = stationary_distribution(matrix)
    assert result.value.is_cuda and result.converged.is_cuda
    torch.testing.assert_close(result.value.cpu(), expected.value, atol=1e-5, rtol=0)
    assert ((result.steps.cpu() - expected.steps).abs() <= 1).all()


def test_no_graph_of_the_iteration_is_kept():
    matrix = random_attention(4).requires_grad_()
    value = stationary_distribution(matrix).value
    assert type(value.grad_fn).__name__ == "ImplicitGradientBackward"
    with torch.no_grad():
        assert not stationary_distribution(matrix).value.requires_grad
    assert not stationary_distribution(matrix.detach()).value.requires_grad


def test_not_converging_raises_and_says_what_to_do():
    chains = torch.stack([birth_death(0.001, 0.002), birth_death(0.5, 0.4)])
    with pytest.raises(ConvergenceError) as caught:
        stationary_distribution(chains, solver=PowerIteration(max_steps=20))
    text = str(caught.value)
    assert "1 of 2 chains did not reach tol=1e-06 in 20 steps, largest residual 0.0" in text
    assert "raise max_steps or tol, lower damping" in text and "raise_on_failure=False" in text
    assert isinstance(caught.value, TokenRankError) and isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("damping", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_damping_must_be_inside_the_unit_interval(damping, unchecked):
    with pytest.raises(ValueError, match=rf"damping: got {damping}, expected a number in the open interval"):
        stationary_distribution(random_attention(3), damping=damping)


@pytest.mark.parametrize("name", ["personalization", "start"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(4), "all zero"),
        (torch.tensor([[1.0] * 4, [0.0] * 4]), "all zero"),
        (torch.tensor([1.0, -1.0, 0.0, 0.0]), r"values in \[-1, 1\], expected finite, non-negative"),
        (torch.tensor([1.0, float("nan"), 0.0, 0.0]), r"values in \[nan, nan\]"),
        (torch.tensor([1.0, float("inf"), 0.0, 0.0]), r"values in \[0, inf\]"),
        (torch.ones(5), r"shape \(5,\), expected \(\.\.\., 4\)"),
        (torch.ones(3, 4), r"shape \(3, 4\), .*broadcast with the chain's batch \(2,\)"),
        (torch.tensor(1.0), r"shape \(\), expected \(\.\.\., 4\)"),
        (torch.ones(0, 2, 4), r"shape \(0, 2, 4\) holds no values"),
    ],
)
def test_malformed_distributions_are_refused(name, values, message, unchecked):
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        stationary_distribution(random_attention(2, 4), **{name: values})


def test_start_and_personalization_must_fit_each_other():
    with pytest.raises(ValueError, match=r"start: shape \(2, 4\) against personalization \(3, 4\)"):
        stationary_distribution(random_attention(4), start=torch.ones(2, 4), personalization=torch.ones(3, 4))


def test_a_tolerance_that_the_dtype_cannot_resolve_is_refused():
    solver = PowerIteration(tol=1e-9)
    with pytest.raises(ValueError, match=r"tol: 1e-09 is below what torch.float32 resolves \(1.2e-07\)"):
        stationary_distribution(random_attention(3, dtype=torch.float32), solver=solver)
    assert stationary_distribution(random_attention(3), solver=solver).converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0.0}, "tol: got 0.0, expected a positive number"),
        ({"tol": float("nan")}, "tol: got nan"),
        ({"tol": float("inf")}, "tol: got inf"),
        ({"max_steps": 0}, "max_steps: got 0, expected at least 1"),
        ({"check_every": 0}, "check_every: got 0, expected at least 1"),
    ],
)
def test_solver_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        PowerIteration(**options)


def test_autocast_costs_no_product_and_changes_nothing():
    """Products of a chain are in full precision anyway; so must be what solvers make of them."""
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            chain = DenseTransition(random_attention(2, 150, dtype=torch.float32))
            found.append(stationary_distribution(chain, damping=0.999, solver=MinimalResidual()))
    assert torch.equal(found[0].steps, found[1].steps)
    assert torch.equal(found[0].value, found[1].value)
