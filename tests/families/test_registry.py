"""One look-up for everything that is known of a family: through base classes, with one text of refusal."""

from dataclasses import replace

import diffusers as d
import pytest
import torch
from torch import nn

from diffseg import DiffSeg
from diffseg.words import word_tokens
from diffseg.zero_shot.layers import is_joint
from sag import SelfAttentionGuidance
from tests.diffseg.helpers import image
from tests.matrix.building import without_weights
from tests.tiny_models import pipeline, run
from tokenrank_guidance import AttentionTap, UnsupportedError, capture
from tokenrank_guidance.families import registry
from tokenrank_guidance.families.flux import FLUX
from tokenrank_guidance.families.refused import REFUSED
from tokenrank_guidance.families.registry import (
    FAMILIES,
    calling_of,
    family_of,
    habits_of,
    picture_of,
    tokens_of,
    words_of,
)


class OwnFlux(d.FluxTransformer2DModel):
    """A user's class over FLUX's."""


class OwnFill(d.FluxFillPipeline):
    """A user's pipeline over Fill's."""


def own(pipe):
    """The same pipeline over a class derived from its denoiser's."""
    pipe.transformer.__class__ = OwnFlux
    return pipe


def test_a_derived_class_is_its_bases_in_every_respect():
    plain, derived = pipeline("flux"), own(pipeline("flux"))
    assert is_joint(derived)
    assert torch.equal(word_tokens(derived, "a box", ["box"])[0], word_tokens(plain, "a box", ["box"])[0])
    labels, guided = [], []
    for pipe in (plain, derived):
        segmenter = DiffSeg.from_pipe(pipe, num_anchors=4, resolution=32)
        labels.append(segmenter(image(32, 32)).labels)
        with SelfAttentionGuidance()(pipe):
            guided.append(run("flux", pipe))
    assert torch.equal(*labels)
    assert torch.equal(*guided)


def test_a_derived_pipeline_has_its_bases_habits():
    assert habits_of(OwnFill.__new__(OwnFill)).mask == "pixels"


def test_every_class_is_in_one_family_and_refused_by_none():
    names = [(family.package, name) for family in FAMILIES for name in family.models]
    assert len(names) == len(set(names))
    assert not {name for _, name in names} & set(REFUSED)
    pipelines = [name for family in FAMILIES for name in family.pipelines]
    assert len(pipelines) == len(set(pipelines))
    assert all(hasattr(d, name) for name in pipelines)


class Chrome(nn.Module):
    """A network like none."""


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [
        (
            tokens_of,
            "cannot capture Chrome: where its tokens are is not known here; known: .*UNet2D",
        ),
        (calling_of, "cannot guide Chrome: how it is called is not known here; known: .*UNet2D"),
    ],
)
def test_one_text_of_refusal(ask, refusal):
    assert family_of(Chrome()) is None
    with pytest.raises(UnsupportedError, match=f"^{refusal}"):
        ask(Chrome())


@pytest.mark.parametrize("ask", [picture_of, words_of])
def test_a_pipeline_that_takes_no_picture_here_says_which_do(ask):
    with pytest.raises(
        UnsupportedError, match=r"cannot segment with UNetControlNetXSModel: .* known: .*Flux.*UNet"
    ):
        ask(without_weights(d.UNetControlNetXSModel))


def test_a_family_of_ones_own_is_one_entry(monkeypatch):
    """Everything asks the registry: an entry is all that a model like FLUX needs."""
    entry = replace(FLUX, models=("OwnFlux",))
    monkeypatch.setattr(registry, "FAMILIES", [family for family in FAMILIES if family is not FLUX])
    pipe = own(pipeline("flux"))
    for use in (
        SelfAttentionGuidance().enable,
        DiffSeg.from_pipe,
        lambda pipe: AttentionTap(pipe.transformer),
    ):
        with pytest.raises(UnsupportedError, match=r"OwnFlux: .* is not known here; known: "):
            use(pipe)
    registry.FAMILIES.append(entry)
    with SelfAttentionGuidance()(pipe), capture(pipe.transformer) as maps:
        run("flux", pipe)
    assert maps[-1].text is not None
    assert DiffSeg.from_pipe(pipe, num_anchors=4, resolution=32)(image(32, 32), "a box").names is not None
