"""One extra pass for several steps: which steps make it, and what the others add."""

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sag import SelfAttentionGuidance
from tests.matrix.check import seen
from tests.matrix.rows import ROWS
from tests.matrix.rows import run as draw
from tests.sag.helpers import count_calls
from tests.tiny_models import Call, denoiser, pipeline, run

STEPS = 5


def shifts(name, reuse):
    """What guidance added in each step, and the numbers of the steps that made the extra pass."""
    pipe = pipeline(name, dtype=torch.float64)
    model = denoiser(pipe)
    with SelfAttentionGuidance(reuse=reuse)(pipe) as guidance, seen(model) as calls:
        run(name, pipe, Call(cfg=False, steps=STEPS))
    main = [call for call in calls if not call.own]
    with torch.no_grad():
        added = [call.output - model(**call.inputs | {"return_dict": False})[0] for call in main]
    return added, [step.number for step in guidance.steps]


@pytest.mark.parametrize("name", ["sd", "flux", "dit"])
def test_steps_between_add_what_the_last_extra_pass_gave(name):
    added, numbers = shifts(name, reuse=2)
    bare = name == "flux"  # its first step is noise alone
    assert numbers == ([0, 1, 2, 4] if bare else [0, 2, 4])
    for first, second in ((2, 3),) if bare else ((0, 1), (2, 3)):
        torch.testing.assert_close(added[second], added[first], rtol=0, atol=1e-12)
    assert not torch.allclose(added[2], added[4])
    assert all(shift.abs().max() > 1e-6 for shift in added[bare:])
    assert not (bare and added[0].any())


@pytest.mark.parametrize(("reuse", "extra"), [(1, 5), (2, 3), (3, 2), (9, 1)])
@pytest.mark.parametrize("name", ["sd", "flux"])
def test_denoiser_calls(name, reuse, extra):
    """FLUX calls its denoiser for either half; both halves of a step get one shift.

    Its first step is noise alone, which needs no pass; the next one makes the pass in its place.
    """
    pipe = pipeline(name)
    with SelfAttentionGuidance(reuse=reuse)(pipe):
        _, calls = count_calls(denoiser(pipe), lambda: run(name, pipe, Call(steps=STEPS)))
    bare = name == "flux" and reuse == 1
    assert calls == STEPS * (2 if name == "flux" else 1) + extra - bare


def test_a_flow_is_guided_from_the_first_step_that_has_a_picture():
    """Noise alone is changed by no blur: were its shift used again, nothing would be guided."""
    pipe = pipeline("flux")
    found = []
    for settings in ({"sag_scale": 0}, {"reuse": STEPS}, {"reuse": STEPS, "start": 0.01}):
        with SelfAttentionGuidance(**settings)(pipe):
            found.append(run("flux", pipe, Call(steps=STEPS)))
    plain, whole, later = found
    torch.testing.assert_close(whole, later, rtol=0, atol=1e-5)
    assert (whole - plain).abs().max() > 1e-3


def test_both_calls_of_a_second_order_step_are_renewed_with_it():
    pipe = pipeline(
        "sd", scheduler=diffusers.HeunDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1)
    )
    with SelfAttentionGuidance(reuse=2)(pipe) as guidance:
        run("sd", pipe, Call(steps=4))
    assert [step.number for step in guidance.steps] == [0, 0, 2, 2]


def test_the_first_guided_call_makes_its_pass_in_whatever_step_it_is():
    row = ROWS["StableDiffusionImg2Img"]
    pipe = row.build()
    with SelfAttentionGuidance(reuse=3)(pipe) as guidance:
        draw(pipe, row.arguments(Call(steps=STEPS)) | {"strength": 0.8})
    assert [step.number for step in guidance.steps] == [1, 3]


def test_a_run_takes_nothing_from_the_one_before_it():
    pipe = pipeline("sd")
    with SelfAttentionGuidance(reuse=9)(pipe):
        first = run("sd", pipe)
        run("sd", pipe, Call(seed=1, batch=2))
        assert torch.equal(run("sd", pipe), first)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 40))
def test_passes_are_counted_in_guided_steps(every, reuse, total):
    guidance = SelfAttentionGuidance(start=0.25, every=every, reuse=reuse)
    numbers = [number for number in range(total) if guidance.guides(number, total)]
    renewed = [number for number in numbers if guidance.renews(number, total)]
    assert renewed == numbers[::reuse]
