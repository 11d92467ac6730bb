"""Guidance of compiled denoisers, and of some whose blocks are."""

from itertools import product
from pathlib import Path

import pytest
import torch
from torch._dynamo import convert_frame

import sag
from sag import SelfAttentionGuidance, TokenRankGuider
from tests.matrix.rows import ROWS
from tests.matrix.rows import run as draw
from tests.sag.test_guider_later import guided_pass, replay
from tests.tiny_models import Call, denoiser, pipeline, run
from tokenrank_guidance import AttentionTap

FAMILIES = ("sd", "flux")
CALL = Call(steps=2)


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph


def compile_denoiser(pipe, in_place, backend):
    name = "unet" if hasattr(pipe, "unet") else "transformer"
    if in_place:
        getattr(pipe, name).compile(backend=backend)
    else:
        setattr(pipe, name, torch.compile(getattr(pipe, name), backend=backend))


def blocks_without_captured_layers(model):
    """Every transformer block that none of the captured layers is in."""
    captured = {id(model.get_submodule(layer)) for layer in AttentionTap(model).layers}
    blocks = [module for name, module in model.named_modules() if name.rpartition(".")[2].isdigit()]
    blocks = [block for block in blocks if type(block).__name__.endswith("TransformerBlock")]
    return [block for block in blocks if captured.isdisjoint(map(id, block.modules()))]


def guided(name, pipe, **settings):
    with SelfAttentionGuidance(**settings)(pipe) as guidance:
        images = run(name, pipe, CALL)
    return images, guidance.steps


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0])
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(found[1], expected[1], strict=True))


def compilations():
    """One by CI, all by hand."""
    ways = [(True, True), (True, False), (False, False)]
    for name, (before, in_place) in product(("dit", *FAMILIES), ways):
        mark = pytest.mark.extended if (name, before, in_place) == ("dit", True, True) else pytest.mark.slow
        yield pytest.param(name, before, in_place, marks=mark)


@pytest.mark.parametrize(("name", "before", "in_place"), list(compilations()))
def test_a_compiled_denoiser_is_guided(name, before, in_place):
    """Compiled before guidance or during it, as a wrapper or in place; and guided again by another."""
    plain, expected = run(name, pipeline(name), CALL), guided(name, pipeline(name))
    other = guided(name, pipeline(name), scorer="sag")
    pipe, backend = pipeline(name), Counting()
    if before:
        compile_denoiser(pipe, in_place, backend)
        torch.testing.assert_close(run(name, pipe, CALL), plain)
    with SelfAttentionGuidance()(pipe) as guidance:
        if not before:
            compile_denoiser(pipe, in_place, backend)
        graphs = backend.graphs
        assert_same((run(name, pipe, CALL), guidance.steps), expected)
    assert 0 < backend.graphs - graphs < 30, "guidance itself was compiled"
    assert_same(guided(name, pipe, scorer="sag"), other)
    torch.testing.assert_close(run(name, pipe, CALL), plain)


@pytest.mark.extended
@pytest.mark.parametrize("before", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FAMILIES)
def test_compiling_the_blocks_without_the_captured_layers_works(name, before):
    expected = guided(name, pipeline(name))
    pipe, backend = pipeline(name), Counting()
    others = blocks_without_captured_layers(denoiser(pipe))
    assert others

    def compile_others():
        for block in others:
            block.compile(backend=backend)

    if before:
        compile_others()
    with SelfAttentionGuidance()(pipe) as guidance:
        if not before:
            compile_others()
        found = run(name, pipe, CALL), guidance.steps
    assert backend.graphs, "nothing was compiled"
    assert_same(found, expected)


@pytest.mark.extended
def test_compiling_once_guidance_is_over_works():
    pipe = pipeline("sd")
    plain = run("sd", pipe, CALL)
    guided("sd", pipe)
    compile_denoiser(pipe, False, "eager")
    torch.testing.assert_close(run("sd", pipe, CALL), plain)


def compiled_here():
    """Functions of this project that Dynamo has taken up."""
    root = Path(sag.__file__).parents[1]
    codes = [reference() for reference in convert_frame.input_codes.seen]
    ours = [code for code in codes if code is not None and root in Path(code.co_filename).parents]
    return {code.co_qualname for code in ours if "site-packages" not in code.co_filename}


@pytest.mark.slow
def test_nothing_of_the_guiders_is_compiled():
    """Its hooks come and go with every step; traced, they were compiled anew by whatever they look at."""
    pipe, inputs = replay("dit")
    pipe.transformer.compile(backend=(backend := Counting()))
    guider = TokenRankGuider(1.0).bind(pipe.scheduler)
    with torch.no_grad():
        guided_pass(guider, pipe.transformer, inputs)
        graphs = backend.graphs
        for _ in range(2):
            guided_pass(guider, pipe.transformer, inputs)
    assert backend.graphs == graphs > 0
    assert len(guider.steps) == 3
    assert not compiled_here()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DiT", "Latte"])
def test_nothing_of_the_hooks_is_compiled_at_any_size(name):
    """Nor is anything at its second run: sizes and parts of a batch are no matter of the hooks."""
    row, backend = ROWS[name], Counting()
    pipe = row.build()
    pipe.transformer.compile(backend=backend)
    graphs = []
    for _ in range(2):
        for batch in (1, 2):
            with SelfAttentionGuidance()(pipe):
                draw(pipe, row.arguments(Call(steps=4, batch=batch)))
        graphs.append(backend.graphs)
    assert graphs[0] == graphs[1] > 0
    assert not compiled_here()
