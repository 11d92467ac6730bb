import pytest
import torch

from tokenrank_guidance.markov import lambda2_head_weights, multi_bounce

from .chains import incoming, random_attention, random_weights


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("direction", ["outgoing", "incoming"])
def test_matrix_power_by_brute_force(n, direction):
    matrix = random_attention(2, 3, 6)
    step = matrix if direction == "outgoing" else incoming(matrix)
    actual = multi_bounce(matrix, start=4, n=n, direction=direction)
    assert actual.shape == (2, 3, 6)
    torch.testing.assert_close(actual, torch.linalg.matrix_power(step, n)[..., 4, :])


def test_two_outgoing_bounces_are_the_default():
    matrix = random_attention(6)
    torch.testing.assert_close(multi_bounce(matrix, 3), (matrix @ matrix)[3])


def test_one_bounce_is_row_select_or_column_select():
    matrix = random_attention(6)
    torch.testing.assert_close(multi_bounce(matrix, 2, n=1), matrix[2])
    column = multi_bounce(matrix, 2, n=1, direction="incoming")
    torch.testing.assert_close(column, matrix[:, 2] / matrix[:, 2].sum())


def test_from_a_uniform_start_one_bounce_is_the_column_mean():
    matrix = random_attention(6)
    torch.testing.assert_close(multi_bounce(matrix, torch.ones(6), n=1), matrix.mean(0))


def test_a_region_starts_as_weights_or_as_a_mask():
    matrix, region = random_attention(2, 6), torch.tensor([True, False, True, False, False, False])
    expected = (matrix @ matrix)[:, region].mean(1)
    torch.testing.assert_close(multi_bounce(matrix, 7.0 * region), expected)
    torch.testing.assert_close(multi_bounce(matrix, region), expected)


def test_a_start_per_image_broadcasts_over_heads():
    matrix, tokens = random_attention(2, 3, 6), torch.tensor([[1], [5]])
    actual = multi_bounce(matrix, tokens, n=1)
    torch.testing.assert_close(actual, torch.stack([matrix[0, :, 1], matrix[1, :, 5]]))


def test_many_starts_on_one_chain():
    matrix = random_attention(6)
    torch.testing.assert_close(
        multi_bounce(matrix, torch.arange(6), n=3), torch.linalg.matrix_power(matrix, 3)
    )


def test_heads_are_mixed_before_the_walk():
    matrix = random_attention(2, 3, 6)
    mean = matrix.mean(1)
    torch.testing.assert_close(multi_bounce(matrix, 0, head_weights="mean"), (mean @ mean)[:, 0])
    weighted = torch.einsum("bh,bhij->bij", lambda2_head_weights(matrix), matrix)
    for direction, step in (("outgoing", weighted), ("incoming", incoming(weighted))):
        actual = multi_bounce(matrix, 0, direction=direction, head_weights="lambda2")
        torch.testing.assert_close(actual, (step @ step)[:, 0])
    first = multi_bounce(matrix, torch.tensor([0, 2]), head_weights=torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(
        first, torch.stack([(matrix[0, 0] @ matrix[0, 0])[0], (matrix[1, 0] @ matrix[1, 0])[2]])
    )


def test_half_precision_maps_give_float32():
    result = multi_bounce(random_attention(2, 8, dtype=torch.bfloat16), 3, n=4)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.sum(-1), torch.ones(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 6}, r"start: token 6 is not in \[0, 5\]"),
        ({"start": -1}, r"start: token -1 is not in \[0, 5\]"),
        ({"start": torch.tensor([0, 1, 2])}, r"start: indices of shape \(3,\), .* batch \(2,\)"),
        ({"start": torch.tensor([], dtype=torch.long)}, r"start: indices of shape \(0,\)"),
        ({"start": torch.ones(5)}, r"start: shape \(5,\), expected \(\.\.\., 6\)"),
        ({"start": -torch.ones(6)}, "start: values in"),
        ({"start": "dog"}, "start: got str, expected a tensor, or numbers"),
        ({"start": {0: 1.0}}, "start: got dict, expected a tensor, or numbers"),
        ({"start": 0, "n": -1}, "n: got -1 bounces, expected 0 or more"),
        (
            {"start": 0, "direction": "sideways"},
            "direction: got 'sideways', expected 'outgoing' or 'incoming'",
        ),
        ({"start": 0, "head_weights": "max"}, "head_weights: got 'max', expected 'mean', 'lambda2', None"),
    ],
)
def test_malformed_arguments_are_refused(arguments, message, unchecked):
    with pytest.raises(ValueError, match=message):
        multi_bounce(random_attention(2, 6), **arguments)


def test_weights_need_not_sum_to_one():
    matrix, weights = random_attention(2, 6), random_weights(2, 6)
    expected = ((weights / weights.sum(-1, keepdim=True)).unsqueeze(1) @ matrix @ matrix).squeeze(1)
    torch.testing.assert_close(multi_bounce(matrix, weights), expected)
