"""The guider in Krea 2's blocks is the hook on its classic pipeline."""

import pytest
import torch
from diffusers.modular_pipelines.krea2 import encoders

from sag import SelfAttentionGuidance, TokenRankGuider
from tests.matrix.building import run
from tests.matrix.modular import BY_THE_GUIDER
from tests.matrix.twins import TWIN_ROWS
from tests.sag.helpers import traces
from tests.sag.test_guider_later import error, modular, quiet_logger, sampled
from tests.tiny_models import NEGATIVE, PROMPT, Call

__all__ = ["quiet_logger"]


@pytest.mark.parametrize("cfg", [True, False])
def test_the_guider_is_the_hook_on_the_classic_pipeline(cfg, monkeypatch):
    for name, value in (
        ("KREA2_TEXT_ENCODER_SELECT_LAYERS", (0, 1)),
        ("_PROMPT_TEMPLATE_ENCODE_PREFIX", ""),
        ("_PROMPT_TEMPLATE_ENCODE_SUFFIX", ">"),
        ("_PROMPT_TEMPLATE_ENCODE_START_IDX", 0),
        ("_PROMPT_TEMPLATE_ENCODE_NUM_SUFFIX_TOKENS", 3),
    ):
        monkeypatch.setattr(encoders, name, value)
    row = TWIN_ROWS["Krea2"]
    pipe, arguments = row.build(), row.arguments(Call(cfg=cfg)) | {"prompt": [PROMPT]}
    plain = run(pipe, arguments)
    with SelfAttentionGuidance()(pipe):
        wanted = run(pipe, arguments)
    blocks = modular(BY_THE_GUIDER["krea2"], pipe.components)
    scale = 1.0 + arguments["guidance_scale"]  # the classic pipeline's counts from the prompt's half
    guider = TokenRankGuider(scale).guide(blocks)
    before = traces(pipe.transformer)
    given = {"prompt": PROMPT, "negative_prompt": NEGATIVE} | {
        name: arguments[name] for name in ("height", "width", "num_inference_steps", "max_sequence_length")
    }
    found = sampled(blocks, given | {"generator": torch.Generator().manual_seed(0)})
    assert error(found, wanted) <= 1e-5
    assert error(found, plain) > 1e-3
    assert len(guider.steps) == 2
    assert traces(pipe.transformer) == before
