"""The noise level at every step, against each scheduler's own reading of a random model output."""

import inspect

import diffusers as d
import pytest
import torch

from sag.noise import SCHEDULERS, noise_formula, noise_level, sampling_step, scalar_timestep
from sag.predict import predict, renoise
from tests.sag.schedulers import BETAS, CASES
from tokenrank_guidance.errors import UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore:.*algorithm_types dpmsolver:FutureWarning")
STEPS = 7
SHAPE = (2, 4, 6, 6)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random(generator):
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def step(scheduler, output, t, x, generator):
    """One scheduler step; the generator feeds those that add noise."""
    noisy = "generator" in inspect.signature(scheduler.step).parameters
    return scheduler.step(output, t, x, **({"generator": generator} if noisy else {}))


def spied(scheduler):
    """Collect what the scheduler itself makes of each model output."""
    seen, convert = [], scheduler.convert_model_output

    def spy(*args, **kwargs):
        seen.append(convert(*args, **kwargs))
        return seen[-1]

    scheduler.convert_model_output = spy
    return seen


EVERY = [(name, prediction) for name, case in CASES.items() for prediction in case.predictions]
READ = [(name, prediction) for name, prediction in EVERY if CASES[name].oracle != "add_noise"]
NOISED = [(name, prediction) for name, prediction in EVERY if CASES[name].oracle == "add_noise"]


@pytest.mark.parametrize(("name", "prediction"), READ)
def test_clean_sample_is_the_schedulers_own(name, prediction):
    oracle, scheduler = CASES[name].oracle, CASES[name].build(prediction)
    seen = [] if oracle == "original" else spied(scheduler)
    scheduler.set_timesteps(STEPS)
    g = seeded(0)
    x = random(g) * scheduler.init_noise_sigma
    for number, t in enumerate(scheduler.timesteps):
        source, output = scheduler.scale_model_input(x, t), random(g)
        place = sampling_step(scheduler, t.item())
        clean, noise = predict(source, output, noise_level(scheduler, place))
        result = step(scheduler, output, t, x, g)
        expected = result.pred_original_sample if oracle == "original" else seen[-1]
        found = noise if oracle == "noise" else clean
        assert place.index == number
        assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()
        x = result.prev_sample


def noised(scheduler, prediction, clean, noise, t):
    """The scheduler's own noising, and what a perfect denoiser would return for it."""
    if prediction == "flow_prediction":
        return scheduler.scale_noise(clean, t[None], noise), noise - clean
    alpha2 = scheduler.alphas_cumprod[int(t)].double()
    velocity = alpha2.sqrt() * noise - (1 - alpha2).sqrt() * clean
    outputs = {"epsilon": noise, "sample": clean, "v_prediction": velocity}
    return scheduler.add_noise(clean, noise, t.long()[None]), outputs[prediction]


@pytest.mark.parametrize(("name", "prediction"), NOISED)
def test_clean_sample_is_what_the_scheduler_noised(name, prediction):
    scheduler = CASES[name].build(prediction)
    scheduler.set_timesteps(STEPS)
    g = seeded(0)
    clean, noise = random(g), random(g)
    for t in scheduler.timesteps:
        level = noise_level(scheduler, sampling_step(scheduler, t.item()))
        x, output = noised(scheduler, prediction, clean, noise, t)
        torch.testing.assert_close(predict(x, output, level), (clean, noise), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "prediction"), EVERY)
def test_renoising_gives_the_input_back(name, prediction):
    scheduler = CASES[name].build(prediction)
    scheduler.set_timesteps(STEPS)
    g = seeded(1)
    for t in scheduler.timesteps[:: STEPS - 1]:
        level = noise_level(scheduler, sampling_step(scheduler, t.item()))
        x = random(g)
        torch.testing.assert_close(renoise(*predict(x, random(g), level), level), x, rtol=1e-6, atol=1e-6)


def test_every_supported_scheduler_is_tested():
    assert {case.scheduler.__name__ for case in CASES.values()} == set(SCHEDULERS)


REFUSED = {
    d.KDPM2DiscreteScheduler: "interpolated noise levels",
    d.KDPM2AncestralDiscreteScheduler: "interpolated noise levels",
    d.EDMEulerScheduler: "preconditioning",
    d.EDMDPMSolverMultistepScheduler: "preconditioning",
    d.DDIMInverseScheduler: "its noise levels are unknown here",
}


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # KDPM2 with numpy 2
@pytest.mark.parametrize("scheduler", REFUSED)
def test_other_schedulers_are_refused_with_the_reason(scheduler):
    with pytest.raises(UnsupportedError, match=f"{scheduler.__name__}: .*{REFUSED[scheduler]}"):
        noise_formula(scheduler())


def level_of(scheduler):
    scheduler.set_timesteps(STEPS)
    return noise_level(scheduler, sampling_step(scheduler, scheduler.timesteps[0].item()))


def test_inverted_flow_is_refused():
    with pytest.raises(UnsupportedError, match="invert_sigmas"):
        level_of(d.FlowMatchEulerDiscreteScheduler(invert_sigmas=True))


CONTRADICTIONS = {
    "epsilon": d.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing"),
    "v_prediction": d.UniPCMultistepScheduler(prediction_type="v_prediction", use_flow_sigmas=True),
    "flow_prediction": d.UniPCMultistepScheduler(prediction_type="flow_prediction"),
    "original_sample": d.DDIMScheduler(prediction_type="original_sample"),
}


@pytest.mark.parametrize("prediction", CONTRADICTIONS)
def test_a_schedule_that_contradicts_the_prediction_is_refused(prediction):
    x = random(seeded(0))
    with pytest.raises(UnsupportedError, match=f"'{prediction}'.*expected"):
        predict(x, x, level_of(CONTRADICTIONS[prediction]))


def test_second_order_calls_share_a_step():
    scheduler = d.HeunDiscreteScheduler(**BETAS)
    scheduler.set_timesteps(4)
    scheduler.set_begin_index(0)
    x, places = torch.zeros(1, 1, 1, 1), []
    for t in scheduler.timesteps:
        places.append(sampling_step(scheduler, t.item()))
        x = scheduler.step(x, t, x).prev_sample
    assert [place.number for place in places] == [0, 0, 1, 1, 2, 2, 3]
    assert {place.total for place in places} == {4}


def test_the_index_counts_where_timesteps_repeat():
    scheduler = d.DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True)
    scheduler.set_timesteps(60)
    assert len(set(scheduler.timesteps.tolist())) < 60
    x, indices = torch.zeros(1, 1, 1, 1), []
    for t in scheduler.timesteps:
        indices.append(sampling_step(scheduler, t.item()).index)
        x = scheduler.step(x, t, x).prev_sample
    assert indices == list(range(60))


def test_image_to_image_starts_in_the_middle():
    scheduler = d.EulerDiscreteScheduler(**BETAS)
    scheduler.set_timesteps(10)
    scheduler.set_begin_index(6)
    place = sampling_step(scheduler, scheduler.timesteps[6].item())
    assert (place.index, place.number, place.total) == (6, 6, 10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_any_flux_timestep_survives_half_precision(dtype):
    scheduler = d.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(1000)
    for index, t in enumerate(scheduler.timesteps):
        scheduler._step_index = index
        called = scalar_timestep((t.expand(2).to(dtype) / 1000), 1000.0)
        assert sampling_step(scheduler, called).index == index


def test_a_stale_step_index_is_not_believed():
    scheduler = d.EulerDiscreteScheduler(**BETAS)
    scheduler.set_timesteps(10)
    scheduler._step_index = 10
    assert sampling_step(scheduler, scheduler.timesteps[3].item()).index == 3


def test_a_timestep_off_the_schedule_is_an_error():
    scheduler = d.DDIMScheduler()
    scheduler.set_timesteps(10)
    with pytest.raises(ValueError, match="timestep 333, which is not among the scheduler's 10 timesteps"):
        sampling_step(scheduler, 333.0)


def test_a_batch_must_share_its_timestep():
    with pytest.raises(ValueError, match=r"one timestep for the whole batch, got \[3, 4\]"):
        scalar_timestep(torch.tensor([3, 4]), 1.0)
    assert scalar_timestep(7, 1.0) == scalar_timestep(torch.tensor(7), 1.0) == 7.0
