"""Attention collected while sampling."""

import pytest
import torch

from diffseg.zero_shot import Generate, segment
from diffseg.zero_shot.options import Options
from diffseg.zero_shot.run import heat_maps
from sag import SelfAttentionGuidance
from tests import tiny_models
from tests.capture.helpers import hook_counts
from tests.diffseg.zero_shot import oracle
from tests.tiny_models import denoiser
from tokenrank_guidance.capture import capture

REQUEST = {"prompt": "a dog", "steps": 3, "height": 32, "width": 48, "seed": 4}
LAYER = {"flux": "transformer_blocks.1.attn", "sd3": "transformer_blocks.1.attn"}
DOG = {"flux": [3, 4, 5], "sd3": [3, 4, 5, 80, 81, 82]}


def pipeline(name):
    """One that decodes to pictures."""
    pipe = tiny_models.pipeline(name)
    pipe.vae.register_to_config(shift_factor=0.0)
    return pipe


def plain(pipe, name, cfg):
    """The image by the pipeline itself, and every record of the layer."""
    own = {"true_cfg_scale": cfg, "negative_prompt": ""} if name == "flux" and cfg > 1 else {}
    own = own or {"true_cfg_scale" if name == "flux" else "guidance_scale": cfg}
    limit = 77 if name == "flux" else 256
    with capture(denoiser(pipe), LAYER[name], keep=None) as records:
        image = pipe(
            ["a dog"], num_inference_steps=3, height=32, width=48, max_sequence_length=limit,
            generator=[torch.Generator().manual_seed(4)], **own,
        ).images[0]  # fmt: skip
    return image, list(records)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_each_step_is_read_under_the_prompt(name, cfg):
    pipe = pipeline(name)
    before = hook_counts(denoiser(pipe))
    changes = {"method": "bounce", "layers": LAYER[name], "lambda2_tol": 1e-9}
    found = segment(pipe, Generate(**REQUEST, cfg=cfg), ["dog"], **changes)
    assert hook_counts(denoiser(pipe)) == before
    image, records = plain(pipe, name, cfg)
    conditional = records[::2] if name == "flux" and cfg > 1 else records
    assert found.steps.shape == (3, 1, 8, 12) and len(conditional) == 3
    assert found.image.tobytes() == image.tobytes() and found.size == (32, 48)
    for heat, record in zip(found.steps, conditional, strict=True):
        expected = oracle.walk(record, DOG[name], 2, "outgoing", "lambda2", "layers")
        torch.testing.assert_close(heat[0].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_concept_attention_while_drawing(name):
    with_guidance, without = (
        segment(
            pipeline(name),
            Generate(**REQUEST | {"steps": 1}, cfg=cfg),
            ["dog", "sky"],
            method="concept-attention",
        )
        for cfg in (4.0, 1.0)
    )
    torch.testing.assert_close(with_guidance.heats, without.heats, rtol=0, atol=1e-5)  # the same first step
    assert with_guidance.steps.shape[:2] == (1, 2)


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_unets_while_drawing(name):
    first = [
        segment(pipeline(name), Generate(**REQUEST | {"steps": 1}, cfg=cfg), ["dog"]).heats
        for cfg in (4.0, 1.0)
    ]
    torch.testing.assert_close(*first, rtol=0, atol=1e-5)


def test_several_methods_share_the_passes():
    pipe, options = pipeline("flux"), [Options(n=3), Options(method="concept-attention"), Options(n=1)]
    calls = []
    handle = denoiser(pipe).register_forward_hook(lambda *_: calls.append(1))
    together = heat_maps(pipe, Generate(**REQUEST), ["dog"], options)
    handle.remove()
    assert len(calls) == 3
    for one, found in zip(options, together, strict=True):
        alone = heat_maps(pipe, Generate(**REQUEST), ["dog"], [one])[0]
        assert torch.equal(found.heats, alone.heats)
    with pytest.raises(ValueError, match="draws: methods that share passes need the same"):
        heat_maps(pipe, Generate(**REQUEST), ["dog"], [Options(), Options(draws=1)])
    with pytest.raises(ValueError, match="read under its own prompt"):
        segment(pipe, Generate(**REQUEST), ["dog"], "a dog")


def test_an_interrupt_leaves_nothing():
    pipe = pipeline("flux")
    before = hook_counts(denoiser(pipe))

    def stop(*_):
        raise KeyboardInterrupt

    handle = pipe.transformer.single_transformer_blocks[0].register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        segment(pipe, Generate(**REQUEST), ["dog"])
    handle.remove()
    assert hook_counts(denoiser(pipe)) == before
    assert segment(pipe, Generate(**REQUEST), ["dog"]).heats.shape == (1, 8, 12)


@pytest.mark.parametrize("method", ["bounce", "concept-attention"])
@pytest.mark.parametrize("name", ["flux", "sd3", "sd"])
def test_a_guided_drawing_is_read_in_its_own_passes(name, method):
    """The first step's latents are the same with guidance, so are its maps; the extra pass is not read."""
    if (name, method) == ("sd", "concept-attention"):
        method = "daam"
    pipe = pipeline(name)
    request = Generate(**REQUEST, cfg=4.0)

    def read():
        return segment(pipe, request, ["dog"], method=method).steps

    plain_steps = read()
    with SelfAttentionGuidance()(pipe) as guidance:
        guided = read()
    assert len(guidance.steps) == len(guided) == len(plain_steps) == 3
    assert torch.equal(guided[0], plain_steps[0])
    assert not torch.equal(guided[2], plain_steps[2])
