"""What `torch.compile` leaves of guidance: what its error advises is what works."""

import pytest
import torch

from sag import SelfAttentionGuidance
from tests.tiny_models import Call, denoiser, pipeline, run
from tokenrank_guidance import AttentionTap, CaptureError

FAMILIES = ("sd", "flux")
CALL = Call(steps=1)


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compile_denoiser(pipe):
    name = "unet" if hasattr(pipe, "unet") else "transformer"
    setattr(pipe, name, torch.compile(getattr(pipe, name), backend="eager"))


def blocks_without_captured_layers(model):
    """Every transformer block that none of the captured layers is in."""
    captured = {id(model.get_submodule(layer)) for layer in AttentionTap(model).layers}
    blocks = [module for name, module in model.named_modules() if name.rpartition(".")[2].isdigit()]
    blocks = [block for block in blocks if type(block).__name__.endswith("TransformerBlock")]
    return [block for block in blocks if captured.isdisjoint(map(id, block.modules()))]


def guided(name, pipe):
    with SelfAttentionGuidance()(pipe) as guidance:
        images = run(name, pipe, CALL)
    return images, guidance.steps


@pytest.mark.parametrize("name", ["sd"])
def test_a_denoiser_compiled_while_guidance_is_on_is_refused(name):
    pipe = pipeline(name)
    with SelfAttentionGuidance()(pipe):
        compile_denoiser(pipe)
        with pytest.raises(CaptureError, match=r"while capture or guidance is on: .* block\.compile\(\)"):
            run(name, pipe, CALL)
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(guided(name, pipe)[0], guided(name, pipeline(name))[0])


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_compiling_the_blocks_without_the_captured_layers_works(name, before):
    eager, steps = guided(name, pipeline(name))
    pipe, compiled = pipeline(name), []
    others = blocks_without_captured_layers(denoiser(pipe))
    assert others

    def count(graph, inputs):
        compiled.append(graph)
        return graph

    def compile_others():
        for block in others:
            block.compile(backend=count)

    if before:
        compile_others()
    with SelfAttentionGuidance()(pipe) as guidance:
        if not before:
            compile_others()
        images = run(name, pipe, CALL)
    assert compiled, "nothing was compiled"
    torch.testing.assert_close(images, eager)
    assert all(torch.equal(a.mask, b.mask) for a, b in zip(guidance.steps, steps, strict=True))


def test_compiling_once_guidance_is_over_works():
    pipe = pipeline("sd")
    plain = run("sd", pipe, CALL)
    guided("sd", pipe)
    compile_denoiser(pipe)
    torch.testing.assert_close(run("sd", pipe, CALL), plain)
