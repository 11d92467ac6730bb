"""Which noise level a timestep is, by the scheduler's own schedule."""

import diffusers as d
import pytest
import torch

from diffseg.passes.noise import image_noise, noised


def test_diffusion_reads_the_schedule_of_training():
    scheduler = d.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    level = image_noise(scheduler, 300, 4096)
    assert level.time == 300
    clean = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    expected = scheduler.add_noise(clean, noise, torch.tensor([300]))
    torch.testing.assert_close(noised(clean, level, torch.Generator().manual_seed(5)), expected)


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_sampling_leaves_the_level_alone(name):
    scheduler = getattr(d, name)()
    before = image_noise(scheduler, 300, 64)
    scheduler.set_timesteps(7)
    assert image_noise(scheduler, 300, 64) == before


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_follows_the_shift(shift):
    scheduler = d.FlowMatchEulerDiscreteScheduler(shift=shift)
    level = image_noise(scheduler, 300, 64)
    assert scheduler.timesteps[-300].item() == pytest.approx(level.time, rel=1e-5)
    assert level.time == pytest.approx(1000 * level.sigma)
    assert level.alpha == 1 - level.sigma


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_dynamic_shift_depends_on_the_number_of_tokens(kind):
    scheduler = d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
    for tokens, mu in ((256, 0.5), (4096, 1.15)):
        expected = scheduler.time_shift(mu, 1.0, torch.tensor([0.3])).item()
        assert image_noise(scheduler, 300, tokens).sigma == pytest.approx(expected, rel=1e-5)
