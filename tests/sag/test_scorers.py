"""The scorers that have a name, against the matrices written out."""

import dataclasses

import numpy as np
import pytest
import torch

from sag import SCORERS, AcrossLayers, GuidanceSettings, RolloutScorer, SelfAttentionGuidance, TokenRankScorer
from sag.mask import score_image
from sag.scorers import unread_by
from tests.sag.test_mask import pagerank, record
from tests.tiny_models import pipeline, run
from tokenrank_guidance.capture import GradientRecord


@pytest.mark.parametrize("name", SCORERS)
def test_every_named_scorer_has_mean_1_for_every_image(name):
    layer = attributed(record((3, 5), text=2))
    score = score_image([layer], SCORERS[name].make(GuidanceSettings()))
    assert score.shape == (2, 3, 5)
    torch.testing.assert_close(score.mean((1, 2)), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(GuidanceSettings(scorer=name).score(layer), score.flatten(1))


def attributed(layer):
    """The record with random values and derivatives."""
    g = torch.Generator().manual_seed(5)
    v, output = (torch.randn(layer.q.shape, generator=g, dtype=torch.float64) for _ in range(2))
    known = {one.name: getattr(layer, one.name) for one in dataclasses.fields(layer)}
    return GradientRecord(**known, v=v, output=output)


def test_the_incoming_rank_is_networkx_pagerank_of_the_normalised_columns():
    layer = record((3, 4), heads=1)
    received = layer.maps()[0, 0].T
    expected = pagerank(received / received.sum(1, keepdim=True))
    found = TokenRankScorer(direction="incoming")(layer)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert not torch.allclose(found, TokenRankScorer()(layer)[0], atol=1e-2)


def test_rollout_is_the_mean_row_of_the_product_of_all_layers():
    layers = [record((3, 4), seed=seed) for seed in range(3)]
    expected = []
    for image in range(2):
        product = np.eye(12)
        for layer in layers:
            product = (0.5 * np.eye(12) + 0.5 * layer.maps()[image].mean(0).numpy()) @ product
        expected.append(12 * product.mean(0).reshape(3, 4))
    np.testing.assert_allclose(score_image(layers, RolloutScorer()).numpy(), expected, rtol=1e-9)


def test_rollout_through_layers_of_different_grids_is_refused():
    layers = [record((4, 4), module="fine"), record((2, 2), module="coarse")]
    with pytest.raises(ValueError, match=r"layers of one grid; got fine of \(4, 4\), coarse of \(2, 2\)"):
        score_image(layers, RolloutScorer())


@pytest.mark.parametrize(
    "made", [None, torch.ones(2, 16), torch.ones(3, 4, 4), torch.full((2, 4, 4), torch.nan)]
)
def test_a_scorer_across_layers_that_breaks_its_contract_is_named(made):
    class Wrong(AcrossLayers):
        def __call__(self, records):
            return made

    with pytest.raises(ValueError, match="the scorer returned"):
        score_image([record((4, 4))], Wrong())


def test_rollout_guides_by_all_its_layers():
    pipe, scores = pipeline("flux"), {}
    for layers in ([0, 1, 2], [2]):
        with SelfAttentionGuidance(scorer="rollout", layers=layers)(pipe) as guidance:
            run("flux", pipe)
        scores[len(layers)] = guidance.steps[0].score
    assert not torch.allclose(scores[3], scores[1])


@pytest.mark.parametrize("wrong", [{"direction": "both"}, {"damping": 1}, {"head_weights": "max"}])
def test_what_a_scorer_refuses(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is "):
        TokenRankScorer(**wrong)
    with pytest.raises(ValueError, match="staying is 2; expected a number in"):
        RolloutScorer(staying=2)


def test_settings_that_a_scorer_does_not_read_are_known():
    assert unread_by("tokenrank") == []
    assert unread_by("sag") == ["damping", "head_weights"]
