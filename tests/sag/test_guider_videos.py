"""The guider in blocks that draw videos is the hook on their classic pipelines."""

from __future__ import annotations

from typing import Any

import diffusers as d
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from sag import SelfAttentionGuidance, TokenRankGuider
from tests.matrix.rows import ROWS, run
from tests.matrix.video_blocks import BOUNDARY, CASES, SCALE, SCALE_2, Case, without_text
from tests.sag.helpers import count_calls, traces
from tests.sag.test_guider_later import Failing, error, modular, quiet_logger, sampled
from tests.tiny_models import Call
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.components import denoisers_of

__all__ = ["quiet_logger"]
STEPS = 3
QUICK = ("wan22", "ltx-i2v")
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.fixture(autouse=True)
def modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some draw a picture's latents before the noise, some after, some take their mode."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def both(name: str) -> tuple[Case, Any, Any]:
    """The case, its classic pipeline, and its blocks over the same networks."""
    case = CASES[name]
    pipe = case.build()
    other = modular(without_text(case.blocks), pipe.components)
    if "boundary_ratio" in other.config:
        other.update_components(boundary_ratio=BOUNDARY)
    return case, pipe, other


def classic(case: Case, pipe: Any, call: Call, **more: Any) -> Tensor:
    if hasattr(pipe, "guider"):
        pipe.guider = d.ClassifierFreeGuidance(SCALE if call.cfg else 1.0)
    return sampled(pipe, case.given(call) | more | seed())


def in_blocks(case: Case, other: Any, call: Call) -> Tensor:
    return sampled(other, case.to_blocks(other, call) | seed())


def seed() -> dict[str, Any]:
    return {"generator": torch.Generator().manual_seed(0)}


@pytest.mark.parametrize("cfg", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["cfg", "no cfg"])
@pytest.mark.parametrize("name", EVERY)
def test_the_guider_is_the_hook_on_the_classic_pipeline(name: str, cfg: bool) -> None:
    case, pipe, other = both(name)
    call = Call(cfg=cfg, steps=STEPS)
    plain = classic(case, pipe, call)
    with SelfAttentionGuidance()(pipe):
        wanted = classic(case, pipe, call)
    guider = TokenRankGuider(SCALE if cfg else 1.0).guide(other)
    before = [traces(one) for one in denoisers_of(other)]
    found = in_blocks(case, other, call)
    assert error(found, wanted) <= 1e-5
    assert error(found, plain) > 1e-3
    assert [step.number for step in guider.steps] == list(range(STEPS))
    assert all(0 < step.mask.float().mean() < 1 for step in guider.steps)
    assert [traces(one) for one in denoisers_of(other)] == before


@pytest.mark.parametrize("name", EVERY)
def test_scale_0_is_classifier_free_guidance_bit_for_bit(name: str) -> None:
    case, _, other = both(name)
    call = Call(steps=STEPS)
    plain = {one: d.ClassifierFreeGuidance(SCALE) for one in ("guider", "guider_2")}
    other.update_components(**{key: one for key, one in plain.items() if key in other.component_names})
    wanted = in_blocks(case, other, call)
    TokenRankGuider(SCALE, sag_scale=0).guide(other)
    before = [traces(one) for one in denoisers_of(other)]
    found, calls = count_calls(denoisers_of(other)[0], lambda: in_blocks(case, other, call))
    assert torch.equal(found, wanted)
    assert 2 <= calls <= 2 * STEPS
    assert [traces(one) for one in denoisers_of(other)] == before


@pytest.mark.parametrize("name", EVERY)
def test_nothing_stays_after_an_error(name: str) -> None:
    """But what blocks leave themselves."""
    case, _, other = both(name)
    last = denoisers_of(other)[-1]  # of two, the first has drawn by then
    whole, last.proj_out = last.proj_out, Failing()
    left = []
    for settings in ({"sag_scale": 0}, {}):
        TokenRankGuider(SCALE, **settings).guide(other)
        with pytest.raises(RuntimeError, match="boom"):
            in_blocks(case, other, Call(steps=STEPS))
        left.append([traces(one) for one in denoisers_of(other)])
    last.proj_out = whole
    assert left[0] == left[1]


def test_each_of_two_denoisers_has_its_guider_and_scale() -> None:
    case, pipe, other = both("wan22")
    call = Call(steps=STEPS)
    with SelfAttentionGuidance()(pipe):
        same = classic(case, pipe, call)
        wanted = classic(case, pipe, call, guidance_scale_2=SCALE_2)
    late = TokenRankGuider(SCALE_2)
    first = TokenRankGuider(SCALE).guide(other, late)
    assert (other.guider, other.guider_2) == (first, late)
    assert error(in_blocks(case, other, call), wanted) <= 1e-5
    assert error(same, wanted) > 1e-3
    assert [[step.number for step in one.steps] for one in (first, late)] == [[0], [1, 2]]


def test_a_second_guider_takes_nothing_from_the_last_run() -> None:
    """It sees no step 0, and its first is none of those that make the extra pass."""
    case, _, other = both("wan22")
    late = TokenRankGuider(SCALE_2, reuse=2)
    TokenRankGuider(SCALE, reuse=2).guide(other, late)
    once, twice = (in_blocks(case, other, Call(steps=STEPS)) for _ in range(2))
    assert torch.equal(once, twice)
    assert [step.number for step in late.steps] == [1, 2]


def test_no_shift_of_noise_alone_is_used_again() -> None:
    case, pipe, other = both("ltx-i2v")
    call = Call(cfg=False, steps=STEPS)
    with SelfAttentionGuidance(reuse=STEPS)(pipe) as guidance:
        wanted = classic(case, pipe, call)
    guider = TokenRankGuider(1.0, reuse=STEPS).guide(other)
    assert error(in_blocks(case, other, call), wanted) <= 1e-5
    assert [[step.number for step in one.steps] for one in (guidance, guider)] == [[0, 1], [0, 1]]


def test_a_second_guider_is_for_two_denoisers() -> None:
    _, pipe, other = both("wan")
    with pytest.raises(ValueError, match="WanModularPipeline takes one guider; got a guider_2 too"):
        TokenRankGuider().guide(other, TokenRankGuider())
    with pytest.raises(UnsupportedError, match="WanPipeline takes no guider"):
        TokenRankGuider().guide(pipe)


def test_in_a_classic_pipeline_that_has_a_guider_it_is_the_hook_and_not_beside_it() -> None:
    pipe, arguments = ROWS["HunyuanVideo15"].build(), ROWS["HunyuanVideo15"].arguments(Call(steps=2))
    with SelfAttentionGuidance()(pipe):
        wanted = run(pipe, arguments)
    pipe.guider = TokenRankGuider(SCALE)
    assert torch.equal(run(pipe, arguments), wanted)
    with pytest.raises(RuntimeError, match="is enabled on this pipeline, too"), SelfAttentionGuidance()(pipe):
        run(pipe, arguments)
    assert torch.equal(run(pipe, arguments), wanted)


def test_the_hook_on_another_pipeline_of_the_denoiser_is_none_beside_it() -> None:
    case, pipe, other = both("wan")
    guider = TokenRankGuider(SCALE).guide(other)
    wanted = in_blocks(case, other, Call(steps=2))
    with pytest.warns(UserWarning, match="nothing was guided"), SelfAttentionGuidance()(pipe):
        assert torch.equal(in_blocks(case, other, Call(steps=2)), wanted)
    assert len(guider.steps) == 2
