"""Whole guided runs under every scheduler."""

import diffusers as d
import pytest
import torch

from sag import SelfAttentionGuidance
from tests.sag.helpers import count_calls
from tests.sag.schedulers import BETAS, CASES
from tests.tiny_models import Call, denoiser, pipeline, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*algorithm_types dpmsolver:FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore:The configuration file of this scheduler:FutureWarning"
    ),  # steps_offset
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),  # KDPM2 with numpy 2
]
FLOW = [name for name, case in CASES.items() if case.predictions == ("flow_prediction",)]
OTHERS = (
    "unclip",
    "wuerstchen",
    "wuerstchen-scaled",
    "scm",
    "cogvideox-dpm",
)  # stepped in a way of their own
SAME = ("-beta", "-exponential", "-scaled", "-zero-snr", "-noise")  # as far as a whole run tells
IN_SD = [name for name in CASES if name not in (*FLOW, *OTHERS) and not name.endswith(SAME)]
IN_SD3 = [name for name in FLOW if not name.endswith((*SAME, "-inverted"))]


def guided(name, scheduler, call):
    """Unguided and guided images, and both counts of denoiser calls."""
    pipe = pipeline(name, scheduler=scheduler)
    plain, calls = count_calls(denoiser(pipe), lambda: run(name, pipe, call))
    with SelfAttentionGuidance()(pipe) as guidance:
        images, guided_calls = count_calls(denoiser(pipe), lambda: run(name, pipe, call))
    assert guided_calls == 2 * calls - sum(step.noise_alone for step in guidance.steps)
    assert [step.number for step in guidance.steps] == [call // scheduler.order for call in range(calls)]
    return plain, images


@pytest.mark.parametrize("case", IN_SD)
def test_stable_diffusion(case):
    scheduler = CASES[case].build(CASES[case].predictions[0])
    plain, images = guided("sd", scheduler, Call(steps=4))
    assert torch.isfinite(images).all()
    assert (images - plain).abs().max() > 1e-4


@pytest.mark.parametrize("case", IN_SD3)
def test_rectified_flow(case):
    plain, images = guided("sd3", CASES[case].build("flow_prediction"), Call(steps=3))
    assert torch.isfinite(images).all()
    assert (images - plain).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["pixart", "dit"])
def test_learned_sigma_under_dpm(name):
    scheduler = CASES["dpm++-karras"].build("epsilon")
    plain, images = guided(name, scheduler, Call(steps=3))
    assert torch.isfinite(images).all()
    assert (images - plain).abs().max() > 1e-4


def test_guided_ddim_and_first_order_dpm_agree():
    """They make the same step from the same ε, so that a wrong noise level in one would drive them apart."""
    common = BETAS | {"timestep_spacing": "trailing"}
    ddim = d.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
    dpm = d.DPMSolverMultistepScheduler(**common, solver_order=1, final_sigmas_type="zero")
    images = [guided("sd", scheduler, Call(steps=4))[1] for scheduler in (ddim, dpm)]
    torch.testing.assert_close(*images, rtol=0, atol=1e-3)
