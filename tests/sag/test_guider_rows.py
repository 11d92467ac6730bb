"""Modular pipelines, guided by the guider or the hook, against rows of the matrix guided by the hook."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from diffusers.modular_pipelines.qwenimage import encoders as qwen

from sag import SelfAttentionGuidance, TokenRankGuider
from tests.matrix.modular import BY_THE_GUIDER, BY_THE_HOOK
from tests.matrix.packed import small_dimensions
from tests.matrix.rows import PROMPT, ROWS
from tests.matrix.video import PICTURE
from tests.sag.helpers import traces
from tests.sag.test_guider_later import error, modular, quiet_logger, sampled
from tests.tiny_models import NEGATIVE, Call

__all__ = ["quiet_logger"]
STEPS = 3
SHARED = ("height", "width", "max_sequence_length", "max_area", "_auto_resize", "image")


@dataclass(frozen=True)
class Case:
    """A row, and what is given to its classic pipeline and to the blocks beside what both take."""

    row: str
    classic: dict[str, Any] = field(default_factory=dict)
    blocks: dict[str, Any] = field(default_factory=dict)


EDIT = {"image": PICTURE, "height": 32, "width": 32}
GUIDED = {
    "ernie": Case("ErnieImage"),
    "qwen21": Case("QwenImage21"),
    "qwen-edit": Case("QwenImageEdit", EDIT),
    "qwen-edit-plus": Case("QwenImageEditPlus", EDIT | {"image": [PICTURE]}),
}
HOOKED = {
    "flux-kontext": Case("FluxKontext", {"image": PICTURE, "guidance_scale": 3.5}, {"guidance_scale": 3.5}),
    "flux2-klein": Case("Flux2Klein", {"guidance_scale": 1.0}, {"text_encoder_out_layers": (1,)}),
    "qwen21-turbo": Case("QwenImage21", {"true_cfg_scale": 1.0}),
}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen-Image's blocks bring pictures to a megapixel."""
    monkeypatch.setattr(qwen, "calculate_dimensions", small_dimensions)


def given(case: Case, cfg: bool) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The classic pipeline, its arguments, and those of the blocks."""
    row = ROWS[case.row]
    pipe, own = row.build(), row.arguments(Call(cfg=cfg, steps=STEPS)) | case.classic
    shared = {name: own[name] for name in SHARED if name in own} | {"num_inference_steps": STEPS}
    negative = {"negative_prompt": NEGATIVE} if cfg else {}
    return pipe, own | {"prompt": [PROMPT]}, shared | negative | {"prompt": PROMPT} | case.blocks


def seeded(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments | {"generator": torch.Generator().manual_seed(0)}


def known(blocks: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those that the blocks take."""
    names = {one.name for one in blocks.blocks.inputs}
    return {name: value for name, value in arguments.items() if name in names}


@pytest.mark.parametrize("cfg", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", GUIDED)
def test_the_guider_is_the_hook_on_the_classic_pipeline(name: str, cfg: bool) -> None:
    pipe, own, other = given(GUIDED[name], cfg)
    scale = own.get("true_cfg_scale", own.get("guidance_scale", 1.0))
    plain = sampled(pipe, seeded(own))
    with SelfAttentionGuidance()(pipe):
        wanted = sampled(pipe, seeded(own))
    blocks = modular(BY_THE_GUIDER[name], pipe.components)
    guider = TokenRankGuider(scale).guide(blocks)
    before = traces(pipe.transformer)
    found = sampled(blocks, seeded(known(blocks, other)))
    assert error(found, wanted) <= 1e-4
    assert error(found, plain) > 1e-3
    assert len(guider.steps) == STEPS
    assert traces(pipe.transformer) == before


@pytest.mark.parametrize("name", HOOKED)
def test_the_hook_on_blocks_is_the_hook_on_the_classic_pipeline(name: str) -> None:
    pipe, own, other = given(HOOKED[name], False)
    plain = sampled(pipe, seeded(own))
    with SelfAttentionGuidance()(pipe):
        wanted = sampled(pipe, seeded(own))
    blocks = modular(BY_THE_HOOK[name], pipe.components)
    with SelfAttentionGuidance()(blocks) as guidance:
        found = sampled(blocks, seeded(known(blocks, other)))
    assert error(found, wanted) <= 1e-4
    assert error(found, plain) > 1e-3
    assert len(guidance.steps) == STEPS
