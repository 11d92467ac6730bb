import pytest
import torch

from tokenrank_guidance.markov import DenseTransition

from .chains import birth_death, cycle, random_attention, restricted
from .contract import OperatorContract


class TestDense(OperatorContract):
    def make(self):
        matrix = random_attention(2, 3, 6)
        return DenseTransition(matrix), matrix


class TestDenseSingle(OperatorContract):
    def make(self):
        matrix = random_attention(5, seed=3)
        return DenseTransition(matrix), matrix


class TestDenseFloat32(OperatorContract):
    tolerance = 3e-6

    def make(self):
        matrix = random_attention(4, 7, seed=4, dtype=torch.float32)
        return DenseTransition(matrix), matrix


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
class TestHalfPrecision:
    def test_rows_are_renormalised_in_float32(self, dtype):
        matrix = random_attention(2, 64, dtype=dtype, sharpness=4.0)
        assert (matrix.float().sum(-1) - 1).abs().max() > 1e-4, "the input must need it"
        operator = DenseTransition(matrix)
        assert operator.dtype == torch.float32
        torch.testing.assert_close(operator.to_dense().sum(-1), torch.ones(2, 64), atol=1e-6, rtol=0)

    @pytest.mark.parametrize("n", [1000, 3000])
    def test_uniform_rows_that_all_round_the_same_way_are_accepted(self, dtype, n):
        operator = DenseTransition(torch.full((1, n), 1 / n, dtype=dtype).expand(n, n))
        torch.testing.assert_close(operator.to_dense(), torch.full((n, n), 1 / n))


def test_tolerance_of_row_sums_follows_the_dtype():
    matrix = torch.full((4, 4), 0.25)
    matrix[2] *= 1.003
    DenseTransition(matrix.bfloat16())
    DenseTransition(matrix.half())
    with pytest.raises(
        ValueError, match=r"rows sum to \[1, 1.003\], expected 1 within 0.0001 for torch.float32"
    ):
        DenseTransition(matrix)
    with pytest.raises(ValueError, match=r"within 1e-06 for torch.float64"):
        DenseTransition(matrix.double())


def test_the_operator_does_not_change_with_the_tensor_it_was_made_from():
    matrix = random_attention(3)
    operator = DenseTransition(matrix)
    before = operator.to_dense().clone()
    matrix.zero_()
    assert torch.equal(operator.to_dense(), before)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.full((4, 7), 1 / 7), r"shape \(4, 7\) is not square .*cross-attention\?"),
        (torch.ones(3), r"shape \(3,\), expected \(\.\.\., n, n\)"),
        (torch.ones(0, 0), "at least one token"),
        (torch.ones(0, 3, 3), "at least one token"),
        (torch.eye(3, dtype=torch.long), "dtype torch.int64, expected floating point"),
        (torch.eye(3, dtype=torch.complex64), "dtype torch.complex64, expected floating point"),
        (torch.tensor([[float("nan"), 1.0], [0.5, 0.5]]), r"entries in \[nan, nan\]"),
        (torch.tensor([[float("inf"), 1.0], [0.5, 0.5]]), r"entries in \[0.5, inf\]"),
        (torch.tensor([[1.5, -0.5], [0.5, 0.5]]), r"entries in \[-0.5, 1.5\]"),
        (torch.tensor([[0.5, 0.5], [0.0, 0.0]]), r"rows sum to \[0, 1\].*post-softmax"),
        (random_attention(5, dtype=torch.float32).mT, "queries on the rows"),
        (torch.eye(3).to_sparse(), r"layout torch.sparse_coo, expected a dense tensor: call to_dense\(\)"),
    ],
)
def test_construction_refuses(matrix, message, unchecked):
    with pytest.raises(ValueError, match=message):
        DenseTransition(matrix)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_restriction_is_softmax_over_those_keys_alone(dtype):
    logits = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=dtype)
    tokens = torch.tensor([1, 2, 5, 8])
    alone = logits[..., tokens, :][..., tokens].softmax(-1)
    torch.testing.assert_close(DenseTransition(logits.softmax(-1)).restrict(tokens).to_dense(), alone)
    torch.testing.assert_close(restricted(logits.softmax(-1), tokens), alone)


def test_restriction_names_the_row_that_has_no_mass_left():
    matrix = torch.stack([birth_death(0.5, 0.5), torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)])
    with pytest.raises(ValueError, match=r"restrict: row \[1, 0\] .* has no mass left"):
        DenseTransition(matrix).restrict(torch.tensor([0]))


def test_incoming_mass_on_a_token_that_nobody_attends_to_stays_there():
    matrix = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.2, 0.8], [0.0, 1.0, 0.0]], dtype=torch.float64)
    operator = DenseTransition(matrix)
    stays = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    assert torch.equal(operator.apply_incoming(stays), stays)
    mixed = torch.tensor([0.25, 0.75, 0.0], dtype=torch.float64)
    expected = torch.tensor([0.25 + 0.75 * 0.5 / 1.7, 0.75 * 0.2 / 1.7, 0.75 / 1.7], dtype=torch.float64)
    torch.testing.assert_close(operator.apply_incoming(mixed), expected)


def test_incoming_survives_columns_near_the_smallest_float32():
    for column in (1e-37, 1e-39, 1e-45):
        matrix = torch.tensor([[column, 1.0], [column, 1.0]])
        out = DenseTransition(matrix).apply_incoming(torch.tensor([1.0, 0.0]))
        torch.testing.assert_close(out.sum(), torch.tensor(1.0))


def test_incoming_is_differentiable_beside_an_unattended_token():
    matrix = torch.tensor([[0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    DenseTransition(matrix).apply_incoming(torch.tensor([0.5, 0.5]))[0].backward()
    assert matrix.grad is not None and matrix.grad.isfinite().all()


def test_incoming_of_a_cycle_walks_it_backwards():
    operator = DenseTransition(cycle(4))
    start = torch.eye(4, dtype=torch.float64)[1]
    assert operator.apply(start).argmax() == 2
    assert operator.apply_incoming(start).argmax() == 0
