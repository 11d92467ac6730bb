"""A setting of a call may change how it packs its latents, and so what is blurred as an image."""

import pytest

import sag.degraded
from sag import SelfAttentionGuidance
from tests.matrix.building import run
from tests.matrix.twins import TWIN_ROWS
from tests.tiny_models import Call


@pytest.mark.parametrize(
    ("name", "shape"), [("BriaFibo", (1, 8, 8, 8)), ("BriaFibo, do_patching", (1, 2, 16, 16))]
)
def test_tokens_are_blurred_as_the_call_packs_them(name, shape, monkeypatch):
    row, seen, own = TWIN_ROWS[name], [], sag.degraded.blur_tokens

    def blur(image, *settings):
        seen.append(tuple(image.shape))
        return own(image, *settings)

    monkeypatch.setattr(sag.degraded, "blur_tokens", blur)
    pipe = row.build()
    with SelfAttentionGuidance()(pipe):
        run(pipe, row.arguments(Call(cfg=False)))
    assert seen == [shape]  # the first step is noise alone
