"""Guidance on a GPU: every family in half precision, offloaded models, streams, and no wait for a value."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sag import SelfAttentionGuidance, TokenRankScorer
from sag.mask import salient, score_image
from tests.tiny_models import PIPELINES, Call, pipeline, run
from tokenrank_guidance import AttentionRecord
from tokenrank_guidance.markov import (
    AttentionTransition,
    Direct,
    deferred_checks,
    stationary_distribution,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
CALL = Call(steps=3)


def guided(pipe, name="sd"):
    with SelfAttentionGuidance()(pipe) as guidance:
        images = run(name, pipe, CALL)
    return images.float().cpu(), guidance.steps


HALVES = [
    (name, dtype)
    for name in PIPELINES
    for dtype in (torch.float16, torch.bfloat16)
    if (name, dtype) != ("ddpm", torch.bfloat16)  # its pipeline gives numpy what numpy does not know
]


@pytest.mark.parametrize(("name", "dtype"), HALVES)
def test_every_family_in_half_precision(name, dtype):
    pipe = pipeline(name, dtype=dtype).to("cuda")
    plain = run(name, pipe, CALL).float().cpu()
    images, steps = guided(pipe, name)
    assert images.isfinite().all() and not torch.equal(images, plain)
    assert len(steps) == CALL.steps and all(step.mask.is_cuda and step.mask.any() for step in steps)
    with SelfAttentionGuidance(sag_scale=0)(pipe):
        assert torch.equal(run(name, pipe, CALL).float().cpu(), plain)


def whole(pipe):
    pipe.to("cuda")


def model_offload(pipe):
    pipe.enable_model_cpu_offload()


def sequential_offload(pipe):
    pipe.enable_sequential_cpu_offload()


def group_offload(pipe):
    pipe.to("cuda")
    pipe.unet.enable_group_offload(
        onload_device=torch.device("cuda"),
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
    )


@pytest.mark.parametrize("place", [whole, model_offload, sequential_offload, group_offload])
def test_wherever_the_weights_are_the_images_are_the_cpus(place):
    expected, steps = guided(pipeline("sd"))
    pipe = pipeline("sd")
    place(pipe)
    images, found = guided(pipe)
    assert all(torch.equal(a.mask.cpu(), b.mask) for a, b in zip(found, steps, strict=True))
    torch.testing.assert_close(images, expected, atol=2e-3, rtol=0)


def test_two_pipelines_on_two_streams():
    alone = [guided(pipeline("sd", seed=seed).to("cuda"))[0] for seed in (0, 1)]
    pipes = [pipeline("sd", seed=seed).to("cuda") for seed in (0, 1)]

    def on_a_stream(pipe):
        with torch.cuda.stream(torch.cuda.Stream()):
            return guided(pipe)[0]

    torch.cuda.synchronize()
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(on_a_stream, pipes))
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def record(tokens, dtype):
    g = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 8, tokens, 40, generator=g).to("cuda", dtype) for _ in range(2))
    return AttentionRecord(q, k, 0.3, grid=(8, tokens // 8))


def mask_of(layer):
    with deferred_checks() as checks:
        mask = salient(score_image([layer], TokenRankScorer()), 1.0)
    return mask, checks


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("tokens", [64, 256])
def test_the_host_waits_for_nothing_from_the_map_to_the_mask(tokens, dtype):
    layer = record(tokens, dtype)
    expected, _ = mask_of(layer)  # once, as libraries are loaded in a first call
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mask, checks = mask_of(layer)
        checks.fetch()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    checks.settle()
    assert torch.equal(mask, expected)


def test_map_to_mask_as_a_cuda_graph():
    layer = record(64, torch.float16)
    expected, _ = mask_of(layer)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        mask_of(layer)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mask, checks = mask_of(layer)
    mask.zero_()
    graph.replay()
    checks.settle()
    assert torch.equal(mask, expected)
    layer.q.fill_(torch.nan)
    graph.replay()
    with pytest.raises(ValueError, match=r"q and k: .* nan"):
        checks.settle()


def test_latents_that_are_not_finite_are_said_to_be_one_step_later():
    pipe, calls = pipeline("sd").to("cuda"), []

    def spoil(module, args):
        calls.append(None)
        if len(calls) == 3:  # the second step: guidance calls it once more in each
            args[0].fill_(torch.nan)

    pipe.unet.register_forward_pre_hook(spoil)
    with SelfAttentionGuidance()(pipe), pytest.raises(ValueError, match="not finite at step 2 of 3"):
        run("sd", pipe, CALL)


@pytest.mark.parametrize("shape", [(8,), (3, 64), (2, 2, 300), (600,)])
def test_one_factorisation_and_its_gradient_are_the_cpus(shape):
    g = torch.Generator().manual_seed(0)
    q, k = (torch.randn(*shape, 16, generator=g, dtype=torch.float64) for _ in range(2))

    def value_and_gradients(device, dtype):
        sides = [side.to(device, dtype).requires_grad_() for side in (q, k)]
        value = stationary_distribution(AttentionTransition(*sides, 0.5), solver=Direct()).value
        gradients = torch.autograd.grad((value[..., 0] * shape[-1]).sum(), sides)
        return [each.detach().cpu().double() for each in (value, *gradients)]

    exact = value_and_gradients("cpu", torch.float64)
    for found, wanted in zip(value_and_gradients("cuda", torch.float32), exact, strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-3)
