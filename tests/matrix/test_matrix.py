"""Every pipeline with every feature: guided as the method says, or refused with the declared reason."""

from typing import Any

import pytest
import torch

from sag import SelfAttentionGuidance
from tests.matrix.cells import GUIDED, REFUSED_FEATURES, REFUSED_ROWS, TRIED, Cell
from tests.matrix.check import check, prepared
from tests.matrix.features import FEATURES
from tests.matrix.rows import ROWS, Arguments, run
from tests.matrix.table import table
from tests.sag.helpers import traces
from tests.tiny_models import Call
from tokenrank_guidance import CaptureError, UnsupportedError
from tokenrank_guidance.components import denoiser_of

DEFAULT = {
    ("StableDiffusionControlNet", "CFG, negative prompt"),
    ("StableDiffusion3Img2Img", "bf16"),
    ("FluxImg2Img", "sequential offload"),
    ("SemanticStableDiffusion", "CFG, negative prompt"),
    ("Flux", "FirstBlockCache"),
    ("StableDiffusion", "DeepCache"),
}
EXTENDED = {
    ("StableDiffusionXLInpaint", "fp16"),
    ("StableDiffusionXL", "IP-Adapter"),
    ("StableDiffusionImg2Img", "LoRA, scale 0.5"),
    ("StableDiffusionXLControlNet", "model offload"),
    ("StableDiffusion", "attention slicing"),
    ("StableDiffusionAdapter", "CFG, negative prompt"),
    ("StableDiffusion", "another on its denoiser"),
    ("PRXPixel", "CFG, negative prompt"),
    ("BriaFibo2, reference image", "plain"),
}


def marked(cell: Cell) -> object:
    """A sample of the cells runs by default, another in CI."""
    place = cell.row, cell.feature
    marks = [] if place in DEFAULT else [pytest.mark.matrix]
    marks += [pytest.mark.extended] if place in EXTENDED else []
    return pytest.param(cell, id=f"{cell.row}-{cell.feature}", marks=marks)


@pytest.mark.parametrize("cell", [marked(cell) for cell in GUIDED])
def test_guided(cell: Cell) -> None:
    check(ROWS[cell.row], FEATURES[cell.feature])


def assert_refused(pipe: Any, arguments: Arguments, reason: str, theirs: tuple[str, ...] = ()) -> None:
    """An error that says why, and a denoiser on which nothing is left but what the pipeline leaves itself."""
    model = denoiser_of(pipe)
    before = traces(model)
    with pytest.raises((CaptureError, UnsupportedError), match=reason), SelfAttentionGuidance()(pipe):
        run(pipe, arguments)
    kept = traces(model)
    assert all(kept[name] == before[name] for name in before if name not in theirs)


@pytest.mark.parametrize("cell", [marked(cell) for cell in REFUSED_FEATURES])
def test_a_feature_is_refused_with_its_reason(cell: Cell) -> None:
    pipe, arguments = prepared(ROWS[cell.row], FEATURES[cell.feature])
    run(pipe, arguments)
    assert_refused(pipe, arguments, cell.refused)


@pytest.mark.parametrize("name", REFUSED_ROWS)
def test_a_pipeline_is_refused_with_its_reason(name: str) -> None:
    row = ROWS[name]
    arguments = {} if row.family == "none" else row.arguments(Call(steps=2))
    assert_refused(row.build(), arguments, row.refused, theirs=("processors",))  # PAG's, after any error


EFFECTS = [
    "LoRA, scale 0.5",
    "LoRA, fused",
    "IP-Adapter",
    "textual inversion",
    "guidance_rescale",
    "FreeU",
    "callback_on_step_end",
]


@pytest.mark.parametrize("feature", EFFECTS)
def test_features_that_change_images_do(feature: str) -> None:
    """Else their cells would show nothing."""
    row = ROWS["StableDiffusion"]
    images = [run(*prepared(row, FEATURES[name])) for name in (feature, "CFG, negative prompt")]
    assert (images[0] - images[1]).abs().max() > 1e-3


CONTROLLED = [
    "StableDiffusionControlNet",
    "StableDiffusionXLControlNet",
    "StableDiffusionAdapter",
    "FluxControl",
    "StableDiffusion3ControlNet",
    "FluxControlNet",
    "CogView4Control",
]


@pytest.mark.parametrize("name", CONTROLLED)
def test_control_images_that_change_images_do(name: str) -> None:
    pipe, arguments = prepared(ROWS[name], FEATURES["CFG, negative prompt"])
    key = "control_image" if "control_image" in arguments else "image"
    other = arguments | {key: arguments[key].flip(3)}
    assert (run(pipe, arguments) - run(pipe, other)).abs().max() > 1e-3


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_the_lora_scale_of_the_extra_pass_is_the_calls(scale: float) -> None:
    """At scale 0 guided images are those without the LoRA, at 1 those of the default."""
    row, guidance = ROWS["StableDiffusion"], SelfAttentionGuidance()
    pipe, given = prepared(row, FEATURES["LoRA, scale 0.5"])
    bare = given | {"cross_attention_kwargs": None}
    other = prepared(row, FEATURES["CFG, negative prompt"])[0] if scale == 0 else pipe
    with guidance(pipe):
        scaled = run(pipe, given | {"cross_attention_kwargs": {"scale": scale}})
    with guidance(other):
        wanted = run(other, bare)
    torch.testing.assert_close(scaled, wanted, rtol=1e-5, atol=1e-5)


def test_the_readmes_table_is_made_of_these_cells() -> None:
    text = table()
    assert all(f"| {name} |" in text for name in ROWS)
    assert all(reason in text for reason in {cell.refused for cell in TRIED if cell.refused})
    assert text.count(" ✓ ") == len(GUIDED)
