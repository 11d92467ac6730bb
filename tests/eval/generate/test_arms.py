"""Arms as text, and the scores that only experiments use."""

from argparse import ArgumentTypeError

import pytest
import torch

from eval.generate.arms import Arm, parse_arm, parse_arms
from eval.generate.scorers import quantiles
from sag import SelfAttentionGuidance
from tests.markov.chains import TOY
from tokenrank_guidance.markov import DenseTransition, column_sum, tokenrank_score
from tokenrank_guidance.option_groups import warn_once


class Record:
    def transition(self, tokens):
        assert tokens == "image"
        return DenseTransition(TOY[None, None])


def test_text_and_back():
    arm = parse_arm("tokenrank:layers=0+mid.attn:scale=0.50:heads=lambda2")
    assert arm.text == "tokenrank:scale=0.5:layers=0+mid.attn:heads=lambda2"
    assert parse_arm(arm.text) == arm
    assert arm.folder == "tokenrank_scale=0.5_layers=0+mid.attn_heads=lambda2"
    guidance = arm.guidance()
    assert (guidance.sag_scale, guidance.layers, guidance.head_weights) == (0.5, (0, "mid.attn"), "lambda2")
    assert (guidance.scorer, guidance.threshold) == ("tokenrank", 1.0)


def test_soft_masks():
    arm = parse_arm("tokenrank:mask=soft:threshold=0.8")
    assert arm.text == "tokenrank:threshold=0.8:mask=soft"
    assert (arm.guidance().mask, arm.guidance().threshold) == ("soft", 0.8)
    assert parse_arm("sag:mask=soft:quantile=0.6").guidance().mask == "soft"


def test_all_settings_are_those_given_and_the_defaults():
    assert parse_arm("none").all_settings == {}
    assert parse_arm("pag:scale=2").all_settings == {"scale": 2.0, "layers": ""}
    given = parse_arm("tokenrank:scale=0.5:direction=incoming").all_settings
    assert (given["scale"], given["direction"]) == (0.5, "incoming")
    assert given["keep_contrast"] == SelfAttentionGuidance().keep_contrast
    assert given["heads"] == "mean"


def test_rescaling():
    arm = parse_arm("sag:keep_contrast=1:scale=1.5")
    assert arm.text == "sag:scale=1.5:keep_contrast=1"
    assert arm.guidance().keep_contrast == 1.0


def test_a_list_takes_each_arm_once():
    assert parse_arms("none, sag,none,sag:every=2") == (
        Arm("none"),
        Arm("sag"),
        Arm("sag", (("every", 2),)),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no arm ''"),
        ("none:scale=1", "no settings"),
        ("pag:every=2", "scale, layers"),
        ("sag:scale", "KEY=VALUE"),
        ("sag:every=1.5", "expected int"),
        ("sag:scale=-1", "sag_scale"),
        ("sag:quantile=1", "quantile"),
        ("sag:quantile=0.5:threshold=1", "one of them"),
        ("sag:direction=incoming", "sag has none"),
        ("rollout:quantile=0.5", "give it a threshold"),
        ("rollout:damping=0.5", "rollout does not read damping"),
        ("tokenrank:direction=sideways", "outgoing or incoming"),
        ("tokenrank:mask=fuzzy", "'hard', 'soft'"),
        ("tokenrank:mask=soft:threshold=0", "a number > 0"),
        ("tokenrank:keep_contrast=1.5", "keep_contrast is 1.5"),
    ],
)
def test_mistakes(text, words):
    with pytest.raises(ArgumentTypeError, match=words):
        parse_arm(text)


def test_quantiles_have_mean_one_and_cut_off_a_share():
    score = torch.rand(3, 40, generator=torch.Generator().manual_seed(0)) ** 3
    found = quantiles(score)
    assert torch.allclose(found.mean(1), torch.ones(3))
    assert torch.equal(found.argsort(1), score.argsort(1))
    assert ((found > 2 * 0.7).sum(1) == 12).all()
    guidance = parse_arm("sag:quantile=0.7").guidance()
    assert guidance.threshold == 1.4
    assert torch.equal(guidance.scorer(Record()), quantiles(column_sum(TOY[None, None])))


def test_the_incoming_chain_is_the_column_normalised_transpose():
    received = TOY.T / TOY.sum(0)[:, None]
    expected = tokenrank_score(received[None, None])
    assert torch.allclose(parse_arm("tokenrank:direction=incoming").guidance().score(Record()), expected)
    plain = parse_arm("tokenrank:direction=outgoing").guidance().score(Record())
    assert torch.allclose(plain, tokenrank_score(TOY[None, None]))
    assert not torch.allclose(expected, tokenrank_score(TOY[None, None]))


def test_the_former_name_of_keep_contrast_is_read_with_a_warning(capsys):
    warn_once.cache_clear()
    for _ in range(2):  # programs read their arguments twice
        assert parse_arm("sag:rescale=0.5").text == "sag:keep_contrast=0.5"
    assert capsys.readouterr().err == "warning: rescale is now called keep_contrast\n"
