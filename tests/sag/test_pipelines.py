"""Other pipelines on the same denoisers, other precisions."""

import diffusers as d
import pytest
import torch

from sag import SelfAttentionGuidance
from tests import tiny_networks as tiny
from tests.sag import oracle
from tests.sag.helpers import recorded
from tests.tiny_models import ARGUMENTS, PIPELINES, PROMPT, Call, denoiser, pipeline, run, sharpen

IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(9))


def other(cls, parts, **options):
    pipe = cls(**parts, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sharp_unet(in_channels):
    """A UNet that says its size in one number, as these pipelines want it."""
    config = dict(tiny.unet(size=16).config) | {"in_channels": in_channels}
    config.pop("_use_default_values")  # would bring back the usual number of channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = d.UNet2DConditionModel.from_config(config).eval()
    sharpen(unet)
    return unet


def guided(pipe, **arguments):
    """Images and steps of a guided run, whose images must be finite and not the plain ones."""
    plain = pipe(**arguments, generator=torch.Generator().manual_seed(0), output_type="latent").images
    with SelfAttentionGuidance()(pipe) as guidance:
        images = pipe(**arguments, generator=torch.Generator().manual_seed(0), output_type="latent").images
    assert torch.isfinite(images).all()
    assert (images - plain).abs().max() > 1e-4
    return images, guidance.steps


def test_image_to_image_guides_the_steps_that_are_left():
    parts = pipeline("sd").components | {"unet": sharp_unet(in_channels=4)}
    pipe = other(d.StableDiffusionImg2ImgPipeline, parts, requires_safety_checker=False)
    _, steps = guided(pipe, prompt=PROMPT, image=IMAGE, strength=0.5, num_inference_steps=4)
    assert [step.number for step in steps] == [2, 3]


def test_inpainting_degrades_the_latents_and_not_the_mask():
    parts = pipeline("sd").components | {"unet": sharp_unet(in_channels=9)}
    pipe = other(d.StableDiffusionInpaintPipeline, parts, requires_safety_checker=False)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    arguments = {"prompt": PROMPT, "image": IMAGE, "mask_image": mask, "height": 32, "width": 32}
    guided(pipe, **arguments, num_inference_steps=2)
    with SelfAttentionGuidance()(pipe), recorded(pipe.unet) as calls:
        pipe(**arguments, num_inference_steps=2, output_type="latent")
    for extra, main in zip(calls[::2], calls[1::2], strict=True):
        sample = main.inputs["sample"]
        assert sample.shape[1] == 9
        assert torch.equal(extra.inputs["sample"][:, 4:], sample[:1, 4:])
        assert (extra.inputs["sample"][:, :4] - sample[:1, :4]).abs().max() > 1e-4


def test_reference_tokens_of_flux_kontext_are_not_blurred():
    pipe = other(d.FluxKontextPipeline, pipeline("flux").components)
    pipe.vae.register_to_config(shift_factor=0.0)
    arguments = {
        "prompt": PROMPT,
        "image": IMAGE,
        "height": 32,
        "width": 32,
        "max_sequence_length": 16,
        "num_inference_steps": 3,
        "_auto_resize": False,
        "max_area": 32 * 32,
    }
    _, steps = guided(pipe, **arguments)
    assert {step.mask.shape for step in steps} == {(1, 8, 8)}
    with SelfAttentionGuidance()(pipe), recorded(pipe.transformer) as calls:
        pipe(**arguments, generator=torch.Generator().manual_seed(0), output_type="latent")
    extra, main = (call.inputs["hidden_states"] for call in calls[-2:])
    assert main.shape[1] > 64
    torch.testing.assert_close(extra[:, 64:], main[:, 64:], rtol=0, atol=1e-5)
    assert (extra[:, :64] - main[:, :64]).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PIPELINES)
def test_half_precision(name, dtype):
    pipe = pipeline(name, dtype=dtype)
    arguments = ARGUMENTS[name](Call()) | {"num_inference_steps": 3}
    arguments |= {"output_type": "pt"} if name == "ddpm" else {}  # numpy knows no bfloat16
    plain = pipe(**arguments, generator=torch.Generator().manual_seed(0)).images
    with SelfAttentionGuidance()(pipe) as guidance, recorded(denoiser(pipe)) as calls:
        images = pipe(**arguments, generator=torch.Generator().manual_seed(0)).images
    assert torch.isfinite(images).all()
    assert not torch.equal(images, plain)
    assert {call.output.dtype for call in calls} == {dtype}
    assert {step.score.dtype for step in guidance.steps} == {torch.float32}
    assert len(guidance.steps) == 3


def test_half_precision_degrades_in_float32():
    pipe = pipeline("sd", dtype=torch.bfloat16)
    with SelfAttentionGuidance()(pipe) as guidance, recorded(pipe.unet) as calls:
        run("sd", pipe, Call(cfg=False, steps=3))
    for step, extra, main in zip(guidance.steps, calls[::2], calls[1::2], strict=True):
        output = pipe.unet(**main.inputs)[0]
        level = oracle.noise_level("sd", main.inputs["timestep"], pipe.scheduler.alphas_cumprod)
        sample = main.inputs["sample"]
        expected = oracle.degraded("sd", sample[0].double(), output[0].double(), step.mask[0], level)
        same = extra.inputs["sample"][0] == expected.to(torch.bfloat16)
        assert same.float().mean() > 0.99


def with_autocast(pipe, name, **options):
    """The guided image under autocast, and the masks of the steps."""
    with torch.autocast("cpu", torch.bfloat16), SelfAttentionGuidance(**options)(pipe) as guidance:
        return run(name, pipe, Call(cfg=False, steps=2)), guidance.steps


@pytest.mark.parametrize(("name", "sample"), [("sd", "sample"), ("sd3", "hidden_states")])
def test_autocast_lowers_the_networks_calls_alone(name, sample):
    """The extra pass is given what the method in plain loops makes of the bfloat16 output."""
    pipe = pipeline(name)
    model, table = denoiser(pipe), getattr(pipe.scheduler, "alphas_cumprod", None)
    with recorded(model) as calls:
        _, steps = with_autocast(pipe, name)
    main, extra = calls[-2:]  # as guidance began after the recording
    x, found = (call.inputs[sample][0] for call in (main, extra))
    assert main.output.dtype == torch.bfloat16
    rounding = 0.0 if x.dtype == torch.float32 else 2**-8  # of what the extra pass is given
    level = oracle.noise_level(name, main.inputs["timestep"], table)
    wanted = oracle.degraded(name, x.double(), main.output[0].double(), steps[-1].mask[0].double(), level)
    torch.testing.assert_close(found.double(), wanted, rtol=rounding, atol=1e-5)
    assert (found - x).abs().max() > 0.1


@pytest.mark.parametrize("scorer", ["tokenrank-stride2", "gradient-chain"])
def test_other_scorers_run_under_autocast(scorer):
    pipe = pipeline("sd")
    images, steps = with_autocast(pipe, "sd", scorer=scorer)
    assert torch.isfinite(images).all() and all(step.mask.any() for step in steps)
