"""The formulas of the GPU's products, on a CPU with the kernel's own slow reference; and on a GPU."""

import time
import warnings
from unittest.mock import Mock

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from tokenrank_guidance.markov import FusedTransition, tokenrank
from tokenrank_guidance.markov.chunked import ChunkedProducts
from tokenrank_guidance.markov.fused import FusedProducts, FusedUntilItFails, told_when_slow
from tokenrank_guidance.markov.logits import Logits
from tokenrank_guidance.markov.mask import Mask

from .chains import random_weights
from .test_attention import queries_and_keys, softmax


def reference(*args, **kwargs):
    """`flex_attention` outside `torch.compile`, which warns that it is slow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return flex_attention(*args, **kwargs)


def masks():
    keep = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.4
    return [None, keep | torch.eye(9, dtype=torch.bool), torch.linspace(-2, 2, 9).expand(3, 1, 9)]


@pytest.mark.parametrize("m", [1, 2, 17, 70])
@pytest.mark.parametrize("mask", masks(), ids=["open", "bool", "added"])
def test_products(mask, m):
    q, k = queries_and_keys(2, 3, 9, 4, dtype=torch.float32)
    matrix = softmax(q, k, 0.7, mask).float().flatten(0, 1)
    products = FusedProducts(q, k, 0.7, None if mask is None else Mask.of(mask, (2, 3), 9), attend=reference)
    x = torch.randn(6, m, 9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(products.left(x), x @ matrix, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(products.right(x), x @ matrix.mT, atol=1e-5, rtol=1e-5)


def test_saturated_rows_and_a_column_that_nobody_attends_to():
    q, k = queries_and_keys(1, 9, 4, dtype=torch.float32)
    mask = torch.ones(9, 9, dtype=torch.bool)
    mask[:, 4] = False
    products = FusedProducts(q, k, 200.0, Mask.of(mask, (1,), 9), attend=reference)
    x = random_weights(1, 1, 9, dtype=torch.float32)
    expected = x.double() @ softmax(q, k, 200.0, mask)
    torch.testing.assert_close(products.left(x).double(), expected, atol=1e-3, rtol=0)


def test_steps_too_small_for_float16():
    q, k = queries_and_keys(1, 9, 4, dtype=torch.float16)
    x = 1e-9 * random_weights(1, 1, 9, dtype=torch.float32)
    products = FusedProducts(q, k, 0.5, attend=reference)
    torch.testing.assert_close(products.left(x), x @ softmax(q, k, 0.5).float(), atol=0, rtol=1e-2)


def without_a_compiler(*args, **kwargs):
    raise RuntimeError("Failed to find C compiler.\nPlease specify one")


def test_where_it_cannot_be_compiled_products_come_from_chunks(capsys):
    q, k = queries_and_keys(2, 9, 4, dtype=torch.float32)
    matrix = softmax(q, k, 0.7).float()
    fused = FusedProducts(q, k, 0.7, attend=without_a_compiler)
    products = FusedUntilItFails(fused, ChunkedProducts(Logits(q, k, 0.7)))
    x = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        torch.testing.assert_close(products.left(x), x @ matrix)
        torch.testing.assert_close(products.right(x), x @ matrix.mT)
    expected = "no fused attention kernel (Failed to find C compiler.): products come from chunks\n"
    assert capsys.readouterr().err == expected


def test_where_it_can_be_they_do_not(capsys):
    q, k = queries_and_keys(2, 9, 4, dtype=torch.float32)
    chunked = Mock(spec=ChunkedProducts)
    products = FusedUntilItFails(FusedProducts(q, k, 0.7, attend=reference), chunked)
    x = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(products.left(x), x @ softmax(q, k, 0.7).float(), atol=1e-5, rtol=1e-5)
    assert "chunks" not in capsys.readouterr().err and not chunked.left.called


def test_slow_work_is_told_of_and_quick_work_is_not(capsys):
    with told_when_slow("compiling", after=0.01):
        time.sleep(0.2)
    with told_when_slow("compiling again", after=30):
        pass
    assert capsys.readouterr().err == "compiling\n"


def test_on_a_cpu_it_is_the_same_chain():
    q, k = queries_and_keys(2, 9, 4)
    chain = FusedTransition(q, k, 0.7, memory=0)
    torch.testing.assert_close(tokenrank(chain), tokenrank(softmax(q, k, 0.7)), atol=1e-6, rtol=0)
    assert isinstance(chain.restrict(torch.arange(4)), FusedTransition)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("masked", [False, True])
def test_on_a_gpu(dtype, bound, masked):
    q, k = queries_and_keys(2, 3, 700, 64, dtype=dtype)
    mask = torch.ones(700, 700, dtype=torch.bool).tril() if masked else None
    matrix = softmax(q, k, 0.125, mask)
    operator = FusedTransition(q.cuda(), k.cuda(), 0.125, None if mask is None else mask.cuda(), memory=0)
    x = torch.randn(2, 2, 3, 700, dtype=torch.float64)
    for actual, expected in (
        (operator.apply(x.cuda()), (x.unsqueeze(-2) @ matrix).squeeze(-2)),
        (operator.apply_transpose(x.cuda()), (matrix @ x.unsqueeze(-1)).squeeze(-1)),
    ):
        error = (actual.cpu().double() - expected).abs().sum(-1) / expected.abs().sum(-1)
        assert error.max() <= bound
    rank, exact = tokenrank(operator).cpu().double(), tokenrank(matrix)
    assert ((rank - exact).abs().sum(-1) <= bound).all()
