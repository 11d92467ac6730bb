"""Combinations against the method in plain loops, in float64: all that a call brings is in the extra pass."""

import pytest
import torch

from sag import SelfAttentionGuidance
from tests.matrix.check import prepared, seen
from tests.matrix.features import FEATURES
from tests.matrix.preparing import cast
from tests.matrix.rows import ROWS, run
from tests.sag import oracle
from tokenrank_guidance.components import denoiser_of

CFG = "CFG, negative prompt"
CASES = [
    ("StableDiffusionImg2Img", CFG),
    ("StableDiffusionControlNet", CFG),
    ("StableDiffusion", "LoRA, scale 0.5"),
    ("StableDiffusion", "IP-Adapter"),
    ("StableDiffusion", "guidance_rescale"),
    ("StableDiffusionXLImg2Img", CFG),
    ("StableDiffusionXLControlNet", CFG),
    ("StableDiffusionXL", "LoRA, scale 0.5"),
    ("StableDiffusionXL", "IP-Adapter"),
    ("StableDiffusion3Img2Img", CFG),
    ("StableDiffusion3Img2Img", "plain"),
    ("FluxImg2Img", "plain"),
    ("QwenImage", "plain"),
    ("StableDiffusion3ControlNet", CFG),
    ("FluxControlNet", "plain"),
    ("Flux2", "plain"),
    ("AuraFlow", CFG),
    ("AuraFlow", "plain"),
    ("Lumina", CFG),
    ("Lumina2", "plain"),
    ("HunyuanDiT", CFG),
    ("KandinskyV22", CFG),
    *[
        pytest.param(name, feature, marks=pytest.mark.matrix)
        for name, feature in (
            ("Chroma", "plain"),
            ("OvisImage", "plain"),
            ("LongCatImage", "plain"),
            ("PRX", CFG),
            ("PRX", "plain"),
            ("HunyuanImage", "plain"),
        )
    ],
]
# Tokens of 2×2 latents, rectified flow, σ itself as time; and learned sigma by a table, unconditional first.
SAME = {"qwen": "flux", "flux2": "flux", "hunyuan": "pixart", "kandinsky": "sd"}
SAME |= dict.fromkeys(("chroma", "ovis", "longcat", "krea2"), "flux") | {"prx": "auraflow", "hyimage": "sd3"}
SCALE = 0.6


@pytest.mark.parametrize(("name", "feature"), CASES)
def test_the_guided_output_is_the_oracles(name, feature):
    row = ROWS[name]
    pipe, arguments = prepared(row, FEATURES[feature])
    cast(torch.float64)(pipe)
    model = denoiser_of(pipe)
    table = getattr(pipe.scheduler, "alphas_cumprod", None)
    with SelfAttentionGuidance(sag_scale=SCALE)(pipe), seen(model) as calls:
        run(pipe, arguments)
    main = calls[-1]
    cfg = feature != "plain"
    like = SAME.get(row.family, row.family)
    shift = oracle.shift(like, model, main.inputs, cfg, "tokenrank", SCALE, table, rescale=1.0)
    with torch.no_grad():
        wanted = model(**main.inputs | {"return_dict": False})[0]
    channels = wanted[:, : shift.shape[1]] if wanted.ndim == 4 else wanted  # learned sigma follows
    channels += torch.cat([shift] * (len(wanted) // len(shift)))
    assert shift.abs().max() > 1e-4
    assert (main.output - wanted).abs().max() / wanted.abs().max() <= 1e-7
