"""Guidance that keeps the contrast of the latents: each channel's mean and standard deviation."""

import pytest
import torch

from sag import SelfAttentionGuidance
from sag.contrast import keep_contrast
from sag.noise import NoiseLevel, noise_level, sampling_step, scalar_timestep
from sag.predict import PREDICTIONS, output_slope, predict
from tests.matrix.check import seen
from tests.tiny_models import ARGUMENTS, Call, denoiser, pipeline, run
from tokenrank_guidance.families.registry import calling_of

STEPS = 4


def images(seed, scale=1.0):
    noise = torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * noise + torch.arange(3, dtype=torch.float64).view(3, 1, 1)


def statistics(image):
    return image.mean((-2, -1)), image.std((-2, -1), correction=0)


def test_every_channel_has_the_plain_ones_mean_and_deviation():
    plain, guided = images(0), images(1, scale=2.5)
    kept = keep_contrast(guided, plain, 1.0)
    for found, expected in zip(statistics(kept), statistics(plain), strict=True):
        torch.testing.assert_close(found, expected)
    centred = [x - x.mean((-2, -1), keepdim=True) for x in (kept, guided)]
    ratio = centred[0] / centred[1]
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio))


def test_the_amount_goes_from_nothing_to_all_of_it():
    plain, guided = images(0), images(1, scale=2.5)
    assert torch.equal(keep_contrast(guided, plain, 0.0), guided)
    half = (guided + keep_contrast(guided, plain, 1.0)) / 2
    torch.testing.assert_close(keep_contrast(guided, plain, 0.5), half)
    torch.testing.assert_close(keep_contrast(plain, plain, 1.0), plain)


def test_a_constant_channel_stays_constant():
    plain, guided = images(0), images(1)
    guided[:, 1] = 4.0
    kept = keep_contrast(guided, plain, 1.0)
    mean = plain[:, 1].mean((-2, -1), keepdim=True)
    torch.testing.assert_close(kept[:, 1], mean.expand_as(kept[:, 1]))
    one = keep_contrast(guided[..., :1, :1], plain[..., :1, :1], 1.0)
    torch.testing.assert_close(one, plain[..., :1, :1])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_slope_takes_a_change_of_the_clean_sample_to_the_outputs(prediction, sign):
    flow = prediction == "flow_prediction"
    level = NoiseLevel(0.7 if flow else 0.8, 0.3 if flow else 0.6, prediction, flow, sign, (0.4, 0.9))
    x, output, other = images(0), images(1), images(2)
    change = predict(x, other, level)[0] - predict(x, output, level)[0]
    torch.testing.assert_close(output_slope(level) * change, other - output)


def clean_image(pipe, call, output, grid):
    """The image that an output stands for: x̂₀, unpacked to (batch, channels, height, width)."""
    calling = calling_of(denoiser(pipe))
    timestep = scalar_timestep(call.inputs["timestep"], calling.timestep_scale) + calling.timestep_offset
    level = noise_level(pipe.scheduler, sampling_step(pipe.scheduler, timestep))
    sample = call.inputs[calling.sample]
    channels = min(sample.shape[calling.channel_axis], output.shape[calling.channel_axis])
    kept = []
    clean, _ = predict(sample, output.narrow(calling.channel_axis, 0, channels), level)
    calling.edit(clean, grid, lambda image: kept.append(image) or image)
    return kept[0]


def moved(name, batch, phi):
    """How far guidance moves channels' means and deviations, and anything, in all steps of a run."""
    pipe = pipeline(name, dtype=torch.float64)
    model = denoiser(pipe)
    with SelfAttentionGuidance(keep_contrast=phi)(pipe) as guidance, seen(model) as calls:
        run(name, pipe, Call(cfg=False, steps=STEPS, batch=batch))
    pipe.scheduler._step_index = None  # the timestep tells the step again
    statistic, image = [], []
    for call, step in zip([call for call in calls if not call.own], guidance.steps, strict=True):
        with torch.no_grad():
            output = model(**call.inputs | {"return_dict": False})[0]
        grid = step.score.shape[-2:]
        plain, guided = (clean_image(pipe, call, given, grid) for given in (output, call.output))
        image.append((guided - plain).abs().max())
        statistic += [(a - b).abs().max() for a, b in zip(statistics(guided), statistics(plain), strict=True)]
    return max(statistic), max(image)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["sd", "flux", "dit"])
def test_the_guided_sample_keeps_its_statistics(name, batch):
    free, kept = (moved(name, batch, phi) for phi in (0.0, 1.0))
    assert free[0] > 1e-5
    assert kept[0] < 1e-10
    assert kept[1] > 1e-5


@pytest.mark.filterwarnings("ignore:divide by zero")  # the scheduler's own shift of 0
def test_a_step_without_noise_is_guided_too():
    """FLUX takes the user's own sigmas, which may end in 0: there x̂₀ is the input, whatever is predicted."""
    pipe, sigmas = pipeline("flux"), [1.0, 0.5, 0.0]
    images = []
    for phi in (0.0, 1.0):
        with SelfAttentionGuidance(keep_contrast=phi)(pipe) as guidance:
            generator = torch.Generator().manual_seed(0)
            given = ARGUMENTS["flux"](Call(cfg=False)) | {"num_inference_steps": len(sigmas)}
            images.append(pipe(**given, sigmas=sigmas, generator=generator).images)
        assert [step.number for step in guidance.steps] == [0, 1, 2]
    assert all(torch.isfinite(image).all() for image in images)
    assert not torch.equal(*images)
