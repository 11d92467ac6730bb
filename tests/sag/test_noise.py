"""The noise level at every step, against each scheduler's own reading of a random model output."""

import copy
import inspect
from dataclasses import dataclass

import diffusers as d
import pytest
import torch
from diffusers import schedulers

from sag.noise import (
    ENDING,
    SCHEDULERS,
    NoiseLevel,
    noise_formula,
    noise_level,
    sampling_step,
    scalar_timestep,
)
from sag.predict import predict, renoise
from sag.refused_schedulers import REFUSED
from tests.sag.schedulers import BETAS, CASES
from tokenrank_guidance.errors import UnsupportedError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*algorithm_types dpmsolver:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),  # KDPM2 with numpy 2
]
STEPS = 7
SHAPE = (2, 4, 6, 6)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random(generator):
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def step(scheduler, output, t, x, generator, clean=None):
    """One scheduler step; the generator feeds those that add noise, the last `clean` those that want it."""
    names = inspect.signature(scheduler.step).parameters
    more = {"old_pred_original_sample": clean, "timestep_back": None if clean is None else t + 1}
    more = {name: value for name, value in (more | {"generator": generator}).items() if name in names}
    result = scheduler.step(output, timestep=t, sample=x, **more)
    return Stepped(*result) if isinstance(result, tuple) else result


@dataclass
class Stepped:
    """What CogVideoX's DPM scheduler returns, in words."""

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


def called_at(scheduler):
    """The timesteps of a run at which its denoiser is called."""
    more = {"intermediate_timesteps": None} if isinstance(scheduler, d.SCMScheduler) else {}
    scheduler.set_timesteps(STEPS, **more)
    return scheduler.timesteps[: -1 if type(scheduler).__name__ in ENDING else None]


def scaled(scheduler, x, t):
    return scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x


def unit(scheduler):
    """That of clean samples; TrigFlow's input is in it too."""
    own = getattr(scheduler.config, "sigma_data", 1.0)
    return 1.0 if isinstance(scheduler, d.SCMScheduler) else own


def end(scheduler, index, *step_arguments):
    """Where a step would lead if it were the last."""
    last = copy.deepcopy(scheduler)
    last.sigmas[index + 1] = 1.0 if getattr(last.config, "invert_sigmas", False) else 0.0
    return step(last, *step_arguments).prev_sample


def spied(scheduler):
    """Collect what the scheduler itself makes of each model output."""
    seen, convert = [], scheduler.convert_model_output

    def spy(*args, **kwargs):
        seen.append(convert(*args, **kwargs))
        return seen[-1]

    scheduler.convert_model_output = spy
    return seen


def asked(*oracles):
    """Those whose clean samples are known from one of `oracles`."""
    return [(name, prediction) for name, prediction in EVERY if CASES[name].oracle in oracles]


EVERY = [(name, prediction) for name, case in CASES.items() for prediction in case.predictions]


@pytest.mark.parametrize(("name", "prediction"), asked("original", "clean", "noise", "end"))
def test_clean_sample_is_the_schedulers_own(name, prediction):
    oracle, scheduler = CASES[name].oracle, CASES[name].build(prediction)
    seen = spied(scheduler) if oracle in ("clean", "noise") else []
    g, last = seeded(0), None
    x = random(g) * scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else random(g)
    for number, t in enumerate(called_at(scheduler)):
        source, output = scaled(scheduler, x, t), random(g)
        place = sampling_step(scheduler, t.item())
        clean, noise = predict(source, output, noise_level(scheduler, place))
        ended = end(scheduler, number, output, t, x, g) if oracle == "end" else None
        result = step(scheduler, output, t, x, g, last)
        expected = last = getattr(result, "pred_original_sample", ended if oracle == "end" else None)
        if expected is None or oracle in ("clean", "noise"):
            expected = seen[-1]
        found = noise if oracle == "noise" else clean * unit(scheduler)
        assert place.index == number
        assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()
        x = result.prev_sample


@pytest.mark.parametrize(("name", "prediction"), asked("path"))
def test_a_perfect_denoiser_is_led_along_a_straight_line(name, prediction):
    scheduler = CASES[name].build(prediction)
    g = seeded(0)
    clean, noise = random(g), random(g)
    times = called_at(scheduler)
    first = scheduler.sigmas[0].item()
    x, output = (1 - first) * clean + first * noise, noise - clean
    for number, t in enumerate(times):
        place = sampling_step(scheduler, t.item())
        found = predict(x, output, noise_level(scheduler, place))
        assert place.index == number
        torch.testing.assert_close(found, (clean, noise), rtol=1e-5, atol=1e-5)
        x = step(scheduler, output, t, x, g).prev_sample.double()
    torch.testing.assert_close(x, clean, rtol=1e-5, atol=1e-5)


def noised(scheduler, prediction, clean, noise, t):
    """The scheduler's own noising, and what a perfect denoiser would return for it."""
    if prediction == "flow_prediction":
        return scheduler.scale_noise(clean, t[None], noise), noise - clean
    if prediction == "epsilon":
        exact = t.is_floating_point() and t <= 1  # Würstchen's timesteps are no indices
        return scheduler.add_noise(clean, noise, t[None] if exact else t.long()[None]), noise
    alpha2 = scheduler.alphas_cumprod[int(t)].double()
    velocity = alpha2.sqrt() * noise - (1 - alpha2).sqrt() * clean
    outputs = {"sample": clean, "v_prediction": velocity}
    return scheduler.add_noise(clean, noise, t.long()[None]), outputs[prediction]


@pytest.mark.parametrize(("name", "prediction"), asked("add_noise"))
def test_clean_sample_is_what_the_scheduler_noised(name, prediction):
    scheduler = CASES[name].build(prediction)
    g = seeded(0)
    clean, noise = random(g), random(g)
    for t in called_at(scheduler):
        level = noise_level(scheduler, sampling_step(scheduler, t.item()))
        x, output = noised(scheduler, prediction, clean, noise, t)
        torch.testing.assert_close(predict(x, output, level), (clean, noise), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "prediction"), EVERY)
def test_renoising_gives_the_input_back(name, prediction):
    scheduler = CASES[name].build(prediction)
    g = seeded(1)
    for t in called_at(scheduler)[:: STEPS - 1]:
        level = noise_level(scheduler, sampling_step(scheduler, t.item()))
        x = random(g)
        torch.testing.assert_close(renoise(*predict(x, random(g), level), level), x, rtol=1e-6, atol=1e-6)


def test_every_supported_scheduler_is_tested():
    assert {case.scheduler.__name__ for case in CASES.values()} == set(SCHEDULERS)


def test_every_scheduler_of_diffusers_is_known_or_refused():
    """Those that need a package that is missing here are among them."""
    inside = {name for names in schedulers._import_structure.values() for name in names}
    every = {name for name in {*inside, *dir(d)} if name.endswith("Scheduler")}
    assert every == set(SCHEDULERS) | set(REFUSED)
    assert not set(SCHEDULERS) & set(REFUSED)


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        (d.DDIMInverseScheduler(), "turns a picture into noise"),
        (d.AmusedScheduler(mask_token_id=1), "classes of tokens"),
        (d.PiflowScheduler(), "a policy for many steps"),
        (object(), "unknown here"),
    ],
)
def test_other_schedulers_are_refused_with_the_reason(scheduler, reason):
    with pytest.raises(UnsupportedError, match=f"{type(scheduler).__name__}: .*{reason}"):
        noise_formula(scheduler)


def level_of(scheduler):
    scheduler.set_timesteps(STEPS)
    return noise_level(scheduler, sampling_step(scheduler, scheduler.timesteps[0].item()))


def test_an_inverted_schedule_that_ends_in_noise_is_refused():
    """FlowMatchLCM turns its sigmas round, but not its step: its last one leads to sigma 1."""
    with pytest.raises(UnsupportedError, match="FlowMatchLCMScheduler with invert_sigmas: it ends in noise"):
        level_of(d.FlowMatchLCMScheduler(invert_sigmas=True))


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


@pytest.mark.parametrize(
    ("alpha", "prediction", "alone"),
    [
        (0.0, "flow_prediction", True),
        (0.0014, "v_prediction", True),
        (0.0064, "epsilon", False),
        (0.05, "flow_prediction", False),
    ],
)
def test_noise_alone_is_what_no_blur_changes(alpha, prediction, alone):
    """Of ε, x̂₀ = (x − σε)/α is as large as α is small."""
    flow = prediction.startswith("flow")
    level = NoiseLevel(alpha, 1 - alpha if flow else (1 - alpha**2) ** 0.5, prediction, flow=flow)
    x, output = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    clean, noise = predict(x, output, level)
    moved = renoise(clean / 2, noise, level) - x
    assert level.noise_alone == alone == bool(moved.abs().max() < 0.01)
