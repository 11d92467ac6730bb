"""Every short name makes its scheduler, and samples with guidance."""

import pytest

from sag import SelfAttentionGuidance
from sag.noise import SCHEDULERS as GUIDED
from tests.tiny_models import pipeline
from tokenrank_guidance.calls import Job, Sampling
from tokenrank_guidance.cli.arms import Study
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.schedulers import FLOW, SCHEDULERS, exchange_scheduler

WITHOUT_A_NAME = {
    *("DPMSolverSinglestepScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler"),  # as the others
    "DPMSolverSDEScheduler",  # needs another package
    *("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "UnCLIPScheduler"),  # of other models' training
    *("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "LTXEulerAncestralRFScheduler", "SCMScheduler"),
    *("CMStochasticIterativeScheduler", "DDPMWuerstchenScheduler", "HeliosScheduler"),
}


def test_names_cover_what_guidance_knows():
    classes = {name for name, _ in SCHEDULERS.values()}
    assert classes == set(GUIDED) - WITHOUT_A_NAME


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_name_makes_its_scheduler(name):
    pipe = pipeline("sd3" if name in FLOW else "sd")
    before = pipe.scheduler.config
    exchange_scheduler(pipe, name)
    class_name, options = SCHEDULERS[name]
    assert type(pipe.scheduler).__name__ == class_name
    assert all(pipe.scheduler.config[key] == value for key, value in options.items())
    assert pipe.scheduler.config.get("beta_schedule") == before.get("beta_schedule")


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # KDPM2 with numpy 2
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in FLOW])
def test_scheduler_samples_with_guidance(name):
    pytest.importorskip("scipy")
    pipe = pipeline("sd")
    exchange_scheduler(pipe, name)
    sampling = Sampling(steps=4, cfg=1.0, height=32, width=32)
    study = Study(pipe, sampling, SelfAttentionGuidance(), [Job("a box", 0)], batch_size=1)
    arm = study.draw("tokenrank")
    assert len(arm.steps) >= 4  # PNDM and Heun call the denoiser more often than that
    assert arm.calls == 2 * len(arm.steps)


@pytest.mark.parametrize(("family", "name"), [("flux", "ddim"), ("sd3", "euler"), ("sd", "flow-euler")])
def test_flow_and_noise_do_not_mix(family, name):
    pipe = pipeline(family)
    with pytest.raises(UnsupportedError, match=name):
        exchange_scheduler(pipe, name)
