"""Every family's guided denoiser output against the plain-loop oracle, and its number of denoiser calls."""

import pytest
import torch

from sag import SelfAttentionGuidance
from tests.sag import oracle
from tests.sag.helpers import EVERY_FAMILY, recorded
from tests.tiny_models import FIXED_SIZE, Call, denoiser, pipeline, run

STEPS, SCALE = 2, 0.6
TOLERANCE = {"hard": 1e-7, "soft": 5e-6}  # float32 timesteps of SD3 and FLUX; the chain's own tolerance too


def call(name, cfg, **options):
    size = {} if name in FIXED_SIZE else {"height": 32, "width": 48}
    return Call(cfg=cfg, steps=STEPS, **size, **options)


def expected(model, name, inputs, shift):
    """The unguided output with `shift` on the latent channels of every row."""
    output = model(**inputs | {"return_dict": False})[0].detach().clone()
    channels = slice(None) if name == "flux" else slice(shift.shape[1])
    output[:, channels] += torch.cat([shift] * (len(output) // len(shift)))
    return output


def error(found, wanted):
    """Largest difference, relative to the largest value wanted."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def test_guidances_own_call_is_not_recorded():
    pipe = pipeline("sd")
    with SelfAttentionGuidance()(pipe):
        run("sd", pipe)
        (hook,) = pipe.unet._forward_hooks.values()
    assert all(tap.records == [] for tap in hook.taps.values())


WAYS = [("tokenrank", "hard", 1.0), ("tokenrank", "soft", 0.6), ("sag", "hard", 0.0)]
OTHER_WAYS = [("tokenrank", "hard", 0.0), ("sag", "hard", 1.0), ("sag", "soft", 0.6)]


@pytest.mark.parametrize(
    ("scorer", "mask", "contrast"),
    [*WAYS, *(pytest.param(*way, marks=pytest.mark.matrix) for way in OTHER_WAYS)],
)
@pytest.mark.parametrize(("name", "cfg"), EVERY_FAMILY)
def test_guided_outputs_are_the_oracles(name, cfg, scorer, mask, contrast):
    pipe = pipeline(name, dtype=torch.float64)
    model, table = denoiser(pipe), getattr(pipe.scheduler, "alphas_cumprod", None)
    with (
        SelfAttentionGuidance(scorer, SCALE, mask=mask, keep_contrast=contrast)(pipe) as guidance,
        recorded(model) as calls,
    ):
        run(name, pipe, call(name, cfg, batch=2))
    left = iter(calls)
    assert len(guidance.steps) == STEPS
    for step in guidance.steps:
        if not step.noise_alone:
            next(left)  # guidance's own call ends before the one it guides
        halves = [next(left) for _ in range(2 if (name, cfg) == ("flux", True) else 1)]
        given = (cfg, scorer, SCALE, table, oracle.MASKS[mask], contrast)
        shift = oracle.shift(name, model, halves[0].inputs, *given)
        for half in halves:
            wanted = expected(model, name, half.inputs, shift)
            assert error(half.output, wanted) <= TOLERANCE[mask]
    assert next(left, None) is None
    assert shift.abs().max() > 1e-4  # at the last step; the first of rectified flow has no signal to blur


LIMITS = {"all of it blurred": (1e-6, -1.0), "no guidance": (1e12, 1e12)}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("name", ["sd", "flux", "sd3", "dit"])
def test_limits_of_soft_masks_are_those_of_hard_ones(name, limit):
    pipe, images = pipeline(name, dtype=torch.float64), {}
    plain = run(name, pipe, call(name, True))
    for mask, threshold in zip(("soft", "hard"), LIMITS[limit], strict=True):
        with SelfAttentionGuidance(threshold=threshold, mask=mask)(pipe):
            images[mask] = run(name, pipe, call(name, True))
    assert error(images["soft"], images["hard"]) <= 1e-9
    changed = error(images["soft"], plain)
    assert changed <= 1e-9 if limit == "no guidance" else changed > 1e-4
