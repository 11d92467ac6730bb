"""The guider in blocks that hand over the denoiser's prediction in either sign, and in FLUX.3's."""

import diffusers as d
import pytest
import torch
from diffusers import modular_pipelines as m

from sag import SelfAttentionGuidance, TokenRankGuider
from tests import tiny_listed as tiny
from tests.families.test_listed_pipelines import clean_pictures
from tests.matrix.rows import ROWS
from tests.sag.test_guider_later import error, modular, quiet_logger, sampled
from tests.tiny_dits import flux2_vae, qwen3, vae_of_eighths
from tests.tiny_models import Call, sharpen
from tokenrank_guidance.families.registry import calling_of

__all__ = ["quiet_logger"]


@pytest.mark.parametrize(("reuse", "steps"), [(1, [1, 2]), (2, [1])])
def test_z_images_blocks_turn_the_sign_before(reuse, steps):
    """Seen in a pass of its own, and kept for the steps that reuse its shift."""
    row, size = ROWS["ZImage"], {"height": 96, "width": 160}
    pipe = row.build()
    pipe.register_modules(vae=vae_of_eighths())  # whose size blocks take for granted
    pipe.vae.register_to_config(shift_factor=0.1)
    pipe.vae_scale_factor = 8
    given = row.arguments(Call(steps=3)) | size
    other = given | {"output_type": "pt"}
    del other["guidance_scale"]

    def seeded():
        return {"generator": torch.Generator().manual_seed(0)}

    plain = sampled(pipe, given | seeded())
    with SelfAttentionGuidance(reuse=reuse, start=0.3)(pipe):
        wanted = sampled(pipe, given | seeded())
    blocks = modular(m.ZImageAutoBlocks, pipe.components)
    guider = TokenRankGuider(4.0, use_original_formulation=True, reuse=reuse, sag_start=0.3).guide(blocks)
    found = sampled(blocks, other | seeded())
    assert error(found, wanted) <= 1e-4
    assert error(found, plain) > 1e-3
    assert [step.number for step in guider.steps] == steps


def without_upsampler():
    """A language model that writes the prompt anew."""
    blocks = m.Flux3AutoBlocks()
    blocks.sub_blocks.pop("prompt_upsampler")
    return blocks


def flux3():
    pipe = modular(without_upsampler, {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {"transformer": tiny.flux3(), "vae": flux2_vae(), "text_encoder": qwen3()}
    sharpen(parts["transformer"])
    parts |= {"tokenizer": tiny.Chat(), "scheduler": d.FlowMatchEulerDiscreteScheduler(shift=3.0)}
    pipe.update_components(**parts)
    return pipe


FLUX3 = {
    "prompt": "a red box",
    "negative_prompt": "blurry",
    "text_encoder_out_layers": (1,),
    "max_sequence_length": 16,
    "height": 24,
    "width": 40,
    "num_inference_steps": 3,
    "output_type": "pt",
}


def drawn():
    return FLUX3 | {"generator": torch.Generator().manual_seed(0)}


def test_flux3s_clean_picture_is_the_schedulers(monkeypatch):
    pipe = flux3()
    guider = TokenRankGuider(1.0, sag_scale=1e-6).guide(pipe)
    estimates, wanted = clean_pictures(pipe, monkeypatch)
    pipe(**drawn())
    assert len(guider.steps) == len(estimates) == len(wanted) == 3
    assert guider.steps[0].mask.shape == (1, 6, 10)
    for (clean, _), picture in zip(estimates, wanted, strict=True):
        torch.testing.assert_close(clean, picture, rtol=1e-4, atol=1e-4)


def test_flux3_is_guided_beside_classifier_free_guidance():
    pipe, made = flux3(), []
    for scale in (0.0, 0.75):
        guider = TokenRankGuider(4.0, sag_scale=scale).guide(pipe)
        made.append(sampled(pipe, drawn()))
    assert len(guider.steps) == 3
    assert error(*made) > 1e-3


def test_flux3_that_jumps_from_step_to_step_is_refused():
    model = tiny.flux3(flow_map=True)
    assert "predicts where its next step leads" in calling_of(model).refused(model, {})
