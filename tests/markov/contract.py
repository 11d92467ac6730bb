"""What every `TransitionOperator` must do; a test class per operator inherits it and says how to make one."""

import pytest
import torch
from torch import Tensor

from tokenrank_guidance.markov import (
    MixtureTransition,
    PowerIteration,
    RestrictedTransition,
    SelectedTransition,
    TransitionOperator,
    multi_bounce,
    stationary_distribution,
)

from .chains import damped_stationary, incoming, random_weights, restricted


class OperatorContract:
    """Subclasses set ``tolerance`` where they compute in float32."""

    tolerance = 1e-12

    def make(self) -> tuple[TransitionOperator, Tensor]:
        """Return an operator on at least 5 tokens, and the matrix it must equal, found some other way."""
        raise NotImplementedError

    def close(self, actual: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(actual.double(), expected.double(), atol=self.tolerance, rtol=0)

    def vectors(self, matrix: Tensor) -> list[Tensor]:
        """One vector for all, one per chain, and several per chain."""
        batch, n = matrix.shape[:-2], matrix.shape[-1]
        return [random_weights(*shape, n) for shape in [(), batch, (3, *batch), (3, *(1 for _ in batch))]]

    def test_shape_dtype_device(self):
        operator, matrix = self.make()
        assert operator.shape == tuple(matrix.shape)
        assert (operator.batch_shape, operator.n) == (tuple(matrix.shape[:-2]), matrix.shape[-1])
        assert operator.dtype in (torch.float32, torch.float64)
        assert operator.device == matrix.device
        assert operator.to_dense().dtype == operator.apply(torch.ones(operator.n)).dtype == operator.dtype
        assert str(operator.shape) in repr(operator)

    def test_to_dense_is_the_matrix_and_row_stochastic(self):
        operator, matrix = self.make()
        dense = operator.to_dense()
        self.close(dense, matrix)
        self.close(dense.sum(-1), torch.ones(dense.shape[:-1]))
        assert (dense >= 0).all()

    def test_apply_is_the_left_action(self):
        operator, matrix = self.make()
        for x in self.vectors(matrix):
            self.close(operator.apply(x), (x.unsqueeze(-2) @ matrix.double()).squeeze(-2))

    def test_apply_transpose_is_the_right_action(self):
        operator, matrix = self.make()
        for x in self.vectors(matrix):
            self.close(operator.apply_transpose(x), (matrix.double() @ x.unsqueeze(-1)).squeeze(-1))

    def test_apply_incoming_is_the_column_normalised_transpose(self):
        operator, matrix = self.make()
        for x in self.vectors(matrix):
            self.close(operator.apply_incoming(x), (x.unsqueeze(-2) @ incoming(matrix.double())).squeeze(-2))

    def test_column_sums_have_mean_one(self):
        operator, matrix = self.make()
        self.close(operator.column_sums, matrix.sum(-2))
        self.close(operator.column_sums.mean(-1), torch.ones(operator.batch_shape))

    def test_autocast_does_not_lower_the_precision(self):
        operator, _ = self.make()
        x = random_weights(operator.n)
        products = operator.apply, operator.apply_transpose, operator.apply_incoming
        expected = [product(x) for product in products]
        operator, _ = self.make()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual = [
                product(x) for product in (operator.apply, operator.apply_transpose, operator.apply_incoming)
            ]
        for got, want in zip(actual, expected, strict=True):
            assert got.dtype == operator.dtype
            self.close(got, want)

    @pytest.mark.parametrize("tokens", [[0, 2, 3], [4, 1], [2]])
    def test_restrict_to_indices_keeps_their_order(self, tokens):
        operator, matrix = self.make()
        tokens = torch.tensor(tokens)
        part, expected = operator.restrict(tokens), restricted(matrix, tokens)
        assert part.shape == tuple(expected.shape)
        self.close(part.to_dense(), expected)
        x = random_weights(len(tokens))
        self.close(part.apply(x), (x @ expected.double()))
        self.close(part.apply_transpose(x), (expected.double() @ x))
        self.close(part.apply_incoming(x), (x @ incoming(expected.double())))

    def test_restrict_to_a_mask_twice(self):
        operator, matrix = self.make()
        mask = torch.arange(operator.n) != 1
        once = operator.restrict(mask)
        self.close(once.to_dense(), restricted(matrix, mask.nonzero().squeeze(-1)))
        self.close(once.restrict(torch.tensor([3, 1])).to_dense(), restricted(matrix, torch.tensor([4, 2])))

    def test_restrict_equals_the_generic_restriction(self):
        operator, _ = self.make()
        tokens = torch.tensor([3, 0, 1])
        self.close(operator.restrict(tokens).to_dense(), RestrictedTransition(operator, tokens).to_dense())

    @pytest.mark.parametrize(
        ("tokens", "message"),
        [
            (torch.tensor([0, 99]), r"indices span \[0, 99\], expected \[0, "),
            (torch.tensor([-1, 2]), r"indices span \[-1, 2\]"),
            (torch.tensor([1, 1]), "occurs twice"),
            (torch.tensor([], dtype=torch.long), "none is kept"),
            (torch.tensor([True, False]), "bool mask of length 2"),
            (torch.tensor([0.5]), "expected 1-D indices or bool"),
            (torch.tensor([[0, 1]]), "expected 1-D indices or bool"),
        ],
    )
    def test_restrict_refuses(self, tokens, message, unchecked):
        operator, _ = self.make()
        with pytest.raises(ValueError, match=message):
            operator.restrict(tokens)

    def test_select_takes_chains_of_the_flattened_batch(self):
        operator, matrix = self.make()
        stack = matrix.reshape(-1, *matrix.shape[-2:]).double()
        last = len(stack) - 1
        several = [torch.tensor([last, 0])[: len(stack)], torch.tensor([[last], [0]])[: len(stack)]]
        for chains in several:
            self._selected(operator, stack, chains)

    def _selected(self, operator, stack, chains):
        for part in (operator.select(chains), SelectedTransition(operator, chains)):
            assert part.shape == tuple(stack[chains].shape)
            self.close(part.to_dense(), stack[chains])
            for x in (random_weights(operator.n), random_weights(3, *chains.shape, operator.n)):
                self.close(part.apply(x), (x.unsqueeze(-2) @ stack[chains]).squeeze(-2))
                self.close(part.apply_transpose(x), (stack[chains] @ x.unsqueeze(-1)).squeeze(-1))

    def test_mix_is_the_weighted_sum_of_matrices(self):
        operator, matrix = self.make()
        if not operator.batch_shape:
            with pytest.raises(ValueError, match="has no head axis"):
                operator.mix(torch.ones(1))
            return
        for shape in (operator.batch_shape[-1:], operator.batch_shape):
            weights = random_weights(*shape)
            share = (weights / weights.sum(-1, keepdim=True))[..., None, None]
            expected = (share * matrix.double()).sum(-3)
            for mixed in (operator.mix(weights), MixtureTransition(operator, weights)):
                assert mixed.shape == tuple(expected.shape)
                self.close(mixed.to_dense(), expected)
                x = random_weights(*mixed.batch_shape, operator.n)
                self.close(mixed.apply(x), (x.unsqueeze(-2) @ expected).squeeze(-2))
                self.close(mixed.apply_incoming(x), (x.unsqueeze(-2) @ incoming(expected)).squeeze(-2))

    def test_a_vector_of_the_wrong_length_is_refused(self, unchecked):
        operator, _ = self.make()
        for product in (operator.apply, operator.apply_transpose, operator.apply_incoming):
            with pytest.raises(
                ValueError, match=rf"vector of shape \(99,\) on a chain of {operator.n} tokens"
            ):
                product(torch.ones(99))

    def test_algorithms_agree_with_the_matrix(self):
        operator, matrix = self.make()
        tol = 1e-13 if operator.dtype == torch.float64 else 3e-7
        result = stationary_distribution(operator, damping=0.9, solver=PowerIteration(tol=tol))
        torch.testing.assert_close(
            result.value.double(), damped_stationary(matrix, 0.9), atol=10 * max(tol, self.tolerance), rtol=0
        )
        for direction, step in (("outgoing", matrix.double()), ("incoming", incoming(matrix.double()))):
            expected = torch.linalg.matrix_power(step, 3)[..., 1, :]
            self.close(multi_bounce(operator, start=1, n=3, direction=direction), expected)
