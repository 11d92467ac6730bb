"""The clean image that guidance blurs is the pipeline's own: what its last, unguided step returns.

A step to σ = 0 gives x̂₀. It tells the units of the time, the sign of the output and the prediction type, and
shares nothing with how guidance reads them.
"""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

import sag.degraded
from sag import SelfAttentionGuidance
from tests.matrix.building import run
from tests.matrix.twins import TWIN_ROWS
from tests.tiny_models import Call

SLOW = ("LongCatImageEdit",)  # it draws a million pixels
MIXED = (
    "ChromaInpaint",
    "HunyuanImage, guider",
    "HunyuanImageRefiner, guider",
)  # with a picture, and two halves
UNPACKED = "Krea2TurboModular"  # its latents, by its last blocks
EVERY = [
    pytest.param(name, marks=[pytest.mark.matrix] if name in SLOW else [])
    for name, row in TWIN_ROWS.items()
    if not row.refused and name not in (*MIXED, UNPACKED)
]


@pytest.mark.parametrize("name", EVERY)
def test_the_last_step_returns_the_clean_estimate(name, monkeypatch):
    row, seen = TWIN_ROWS[name], []

    def split(call, level):
        seen.append(own(call, level))
        return seen[-1]

    own = sag.degraded._split
    pipe, arguments = row.build(), row.arguments(Call(cfg=False))
    if name == "PRXPixel":  # which takes smaller σ for 0.05, and so never steps to its image
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, shift_terminal=0.1)
    plain = run(pipe, arguments)
    monkeypatch.setattr(sag.degraded, "_split", split)
    with SelfAttentionGuidance(start=0.5)(pipe) as guidance:
        run(pipe, arguments)
    assert [step.number for step in guidance.steps] == [1]
    [(clean, _)] = seen
    own_tokens = clean[:, : plain.shape[1]]  # those of reference images follow
    torch.testing.assert_close(own_tokens, plain.to(clean.dtype), rtol=1e-4, atol=1e-5)
