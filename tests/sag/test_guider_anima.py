"""The guider in Anima's blocks, which have no classic pipeline, against a plain loop without `sag`."""

from __future__ import annotations

from typing import Any

import diffusers as d
import numpy as np
import pytest
import torch
from torch import Tensor

from sag import TokenRankGuider
from tests import tiny_dits as dits
from tests import tiny_videos as tiny
from tests.matrix.building import Arguments, seeded
from tests.matrix.video import PICTURE
from tests.matrix.video_blocks import without_text
from tests.sag.helpers import traces
from tests.sag.test_guider_later import Failing, error, modular, quiet_logger, sampled
from tests.sag.test_video_oracle import blur, dense, wan_times
from tokenrank_guidance import capture

__all__ = ["quiet_logger"]
STEPS, SCALE, SAG, SIDE, GRID = 3, 4.0, 0.75, 32, (1, 8, 8)


def anima() -> Any:
    parts = {
        "transformer": seeded(lambda: tiny.cosmos(4)),
        "text_conditioner": seeded(tiny.anima_conditioner),
        "vae": seeded(dits.qwen_vae),
        "scheduler": d.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    return modular(without_text("anima"), parts)


def texts() -> Arguments:
    """What the encoder makes of a prompt and of another: states, and tokens."""
    generator = torch.Generator().manual_seed(8)
    given: Arguments = {}
    for kind in ("", "negative_"):
        given[f"{kind}qwen_prompt_embeds"] = torch.randn(1, 7, 16, generator=generator)
        given[f"{kind}qwen_attention_mask"] = torch.ones(1, 7, dtype=torch.long)
        given[f"{kind}t5_input_ids"] = torch.randint(1, 32, (1, 6), generator=generator)
        given[f"{kind}t5_attention_mask"] = torch.ones(1, 6, dtype=torch.long)
    return given


def drawn(pipe: Any, **more: Any) -> Tensor:
    size = {"height": SIDE, "width": SIDE, "num_inference_steps": STEPS, "output_type": "pt"}
    return sampled(pipe, texts() | size | more | {"generator": torch.Generator().manual_seed(0)})


@torch.no_grad()
def by_hand(pipe: Any, scale: float) -> Tensor:
    """The prompt's pass is looked at; both get the shift, which comes out of their mix as it went in."""
    given, model = texts(), pipe.transformer
    wanted, unwanted = (
        pipe.text_conditioner(
            source_hidden_states=given[f"{kind}qwen_prompt_embeds"],
            target_input_ids=given[f"{kind}t5_input_ids"],
            target_attention_mask=given[f"{kind}t5_attention_mask"],
            source_attention_mask=given[f"{kind}qwen_attention_mask"],
        )
        for kind in ("", "negative_")
    )
    pipe.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS))
    latents = torch.randn(1, 4, 1, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(0))
    padding = torch.zeros(1, 1, SIDE, SIDE)
    for i, t in enumerate(pipe.scheduler.timesteps):

        def predict(x: Tensor, text: Tensor, t: Tensor = t) -> Tensor:
            return model(x, t.expand(1) / 1000, text, padding_mask=padding, return_dict=False)[0]

        with capture(model) as maps:
            flow = predict(latents, wanted)
        mask = dense(maps[-1], 0).view(GRID) > 1
        alpha, sigma = wan_times(pipe.scheduler.sigmas[i].item())
        clean, noise = latents - sigma * flow, latents + (1 - sigma) * flow
        degraded = alpha * blur(clean[0], mask)[None] + sigma * noise
        shift = SAG * (flow - predict(degraded, wanted))
        if scale != 1:
            other = predict(latents, unwanted)
            flow = other + scale * (flow - other)
        latents = pipe.scheduler.step(flow + shift, t, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("scale", [SCALE, 1.0], ids=["cfg", "no cfg"])
def test_a_guided_picture_is_the_plain_loops(scale: float) -> None:
    pipe = anima()
    TokenRankGuider(scale, sag_scale=0).guide(pipe)
    plain = drawn(pipe)
    guider = TokenRankGuider(scale, sag_scale=SAG, keep_contrast=0).guide(pipe)
    before = traces(pipe.transformer)
    found = drawn(pipe)
    assert error(found, by_hand(pipe, scale)) <= 1e-4
    assert error(found, plain) > 1e-3
    assert [step.score.shape for step in guider.steps] == [(1, *GRID)] * STEPS
    assert traces(pipe.transformer) == before


def test_scale_0_is_classifier_free_guidance_and_nothing_stays_after_an_error() -> None:
    pipe = anima()
    pipe.update_components(guider=d.ClassifierFreeGuidance(SCALE))
    plain = drawn(pipe)
    TokenRankGuider(SCALE, sag_scale=0).guide(pipe)
    assert torch.equal(drawn(pipe), plain)
    TokenRankGuider(SCALE).guide(pipe)
    before, whole = traces(pipe.transformer), pipe.transformer.proj_out
    pipe.transformer.proj_out = Failing()
    with pytest.raises(RuntimeError, match="boom"):
        drawn(pipe)
    pipe.transformer.proj_out = whole
    assert traces(pipe.transformer) == before


def test_a_picture_to_begin_with_is_guided_from_its_noise_on() -> None:
    pipe, given = anima(), {"image": PICTURE, "strength": 0.5}
    TokenRankGuider(SCALE, sag_scale=0).guide(pipe)
    plain = drawn(pipe, **given)
    guider = TokenRankGuider(SCALE).guide(pipe)
    assert error(drawn(pipe, **given), plain) > 1e-3
    assert [(step.number, step.timestep) for step in guider.steps] == [
        (number, pipe.scheduler.timesteps[number].item()) for number in (1, 2)
    ]
