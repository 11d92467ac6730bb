"""LTX-2's blocks, whose own guiders stay, guided by the hook as the classic pipeline is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers as d
import pytest
import torch
from torch import Tensor, nn

import sag.hook
from sag import SelfAttentionGuidance, TokenRankGuider
from tests import tiny_networks as nets
from tests.matrix.modular import BY_THE_HOOK
from tests.matrix.rows import ROWS
from tests.sag.helpers import traces
from tests.sag.test_guider_later import Failing, error, modular, quiet_logger
from tests.tiny_models import Call
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.registry import calling_of

__all__ = ["quiet_logger"]
STEPS = 3


def without_text(name: str) -> Callable[[], Any]:
    """The blocks but what makes prompts and embeddings, and what decodes."""

    def build() -> Any:
        blocks = BY_THE_HOOK[name]()
        for other in ("prompt_enhancer", "decode"):
            del blocks.sub_blocks[other]
        del blocks.sub_blocks["text_encoder"].sub_blocks["text_encoder"]
        return blocks

    return build


def sampled(monkeypatch: pytest.MonkeyPatch, pipe: Any, given: dict[str, Any]) -> Tensor:
    """What the video's scheduler made last; its sound's is a copy of it."""
    made, step = [], d.FlowMatchEulerDiscreteScheduler.step

    @functools.wraps(step)
    def kept(self: Any, *args: Any, **kwargs: Any) -> Any:
        stepped = step(self, *args, **kwargs)
        if self is pipe.scheduler:
            made.append(stepped[0])
        return stepped

    with monkeypatch.context() as patch:
        patch.setattr(d.FlowMatchEulerDiscreteScheduler, "step", kept)
        pipe(**given, generator=torch.Generator().manual_seed(0))
    return made[-1]


def of_the_prompt(denoiser: nn.Module) -> Calling:
    """Blocks call for the prompt first, where the classic pipeline's batch holds it in its second half."""
    return replace(calling_of(denoiser), unconditional=1)


def both(row: str, blocks: str, call: Call, rescale: float) -> tuple[Any, dict, Any, dict]:
    """The classic pipeline and the blocks over the same networks, with what each is given."""
    pipe, both_scales = ROWS[row].build(), {"guidance_rescale": rescale, "audio_guidance_rescale": rescale}
    own = ROWS[row].arguments(call) | both_scales
    tokenizer = nets.tokenizer(7)
    tokenizer.padding_side = "left"  # the classic pipeline's, where it has none
    other = modular(without_text(blocks), pipe.components | {"tokenizer": tokenizer})
    names = ("guidance_scale", "stg_scale", "modality_scale", "guidance_rescale")
    scales = {name: own[name] for name in names}
    other.update_components(
        guider=d.LTX2Guidance(**scales, spatio_temporal_guidance_blocks=[1]),
        audio_guider=d.LTX2Guidance(**scales),
    )
    taken = {one.name for one in other.blocks.inputs}
    whole = ROWS[row].arguments(replace(call, cfg=True)) | own | {"batch_size": 1, "dtype": torch.float32}
    return pipe, own, other, {name: value for name, value in whole.items() if name in taken}


def slow(*case: Any) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("row", "blocks", "cfg", "rescale"),
    [
        ("LTX2, perturbed", "ltx2", True, 0.0),
        slow("LTX2, perturbed", "ltx2", False, 0.7),
        slow("LTX2", "ltx2", True, 0.7),
        slow("LTX2", "ltx25", True, 0.0),
        ("LTX2ImageToVideo", "ltx2", False, 0.0),
        slow("LTX2ImageToVideo", "ltx2", True, 0.0),
        slow("LTX2Condition, first and later frame", "ltx2", True, 0.0),
        slow("LTX2Condition, first and later frame", "ltx2", False, 0.0),
    ],
)
def test_the_hook_on_blocks_is_the_hook_on_the_classic_pipeline(
    monkeypatch: pytest.MonkeyPatch, row: str, blocks: str, cfg: bool, rescale: float
) -> None:
    pipe, own, other, given = both(row, blocks, Call(cfg=cfg, steps=STEPS), rescale)
    plain = sampled(monkeypatch, other, given)
    before = traces(pipe.transformer)
    with monkeypatch.context() as patch, SelfAttentionGuidance()(pipe):
        patch.setattr(sag.hook, "calling_of", of_the_prompt)
        wanted = sampled(monkeypatch, pipe, own)
    with SelfAttentionGuidance()(other) as guidance:
        found = sampled(monkeypatch, other, given)
    assert error(found, wanted) <= 1e-5
    assert error(found, plain) > 1e-3
    assert [step.number for step in guidance.steps] == list(range(STEPS))
    assert traces(pipe.transformer) == before
    with SelfAttentionGuidance(sag_scale=0)(other):
        assert torch.equal(sampled(monkeypatch, other, given), plain)


def test_nothing_stays_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, _, other, given = both("LTX2", "ltx2", Call(steps=STEPS), 0.0)
    sampled(monkeypatch, other, given)
    pipe.transformer.proj_out = Failing()
    before = traces(pipe.transformer)
    with pytest.raises(RuntimeError, match="boom"), SelfAttentionGuidance()(other):
        sampled(monkeypatch, other, given)
    assert traces(pipe.transformer) == before


def test_its_guiders_stay() -> None:
    other = modular(without_text("ltx2"), {})
    with pytest.raises(UnsupportedError, match=r"LTX2ModularPipeline has guiders that mix more than"):
        TokenRankGuider().guide(other)
