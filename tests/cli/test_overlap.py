"""The overlap of masks: its definition, its interval, and that both masks are of the same attention."""

import pytest
import torch

from sag import ColumnSumScorer, SelfAttentionGuidance
from tests.tiny_models import Call, pipeline, run
from tokenrank_guidance.cli.overlap import (
    PairedScorer,
    StepMasks,
    bootstrap_mean,
    intersection_over_union,
    join,
)


def mask(*rows: str) -> torch.Tensor:
    return torch.tensor([[[cell == "x" for cell in row] for row in rows]])


def test_overlap_by_hand():
    first = torch.cat([mask("xx.", "..."), mask("...", "..."), mask("x..", "...")])
    second = torch.cat([mask(".xx", "..."), mask("...", "..."), mask("...", "..x")])
    assert intersection_over_union(first, second).tolist() == pytest.approx([1 / 3, 1.0, 0.0])


def test_interval_holds_the_mean_and_narrows():
    values = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = bootstrap_mean(values)
    assert found.low < found.value == values.mean() < found.high and found.n == 400
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std().item() / 20, rel=0.1)
    assert bootstrap_mean(values[:1]).to_json() == {"value": values[0].item(), "ci": [None, None], "n": 1}
    assert bootstrap_mean(values) == found


@pytest.mark.parametrize("name", ["sd", "flux"])
@pytest.mark.parametrize("layers", ["auto", [0, 1]])
def test_scorer_agrees_with_itself_on_every_layer_and_half(name, layers):
    scorer = PairedScorer(ColumnSumScorer(), ColumnSumScorer())
    pipe = pipeline(name)
    with SelfAttentionGuidance(scorer=scorer, layers=layers)(pipe) as guidance:
        run(name, pipe, Call(batch=2, steps=3))
    steps = scorer.masks(guidance.steps, guidance.threshold)
    assert [step.number for step in steps] == [0, 1, 2]
    for step in steps:
        assert 0 < step.own.float().mean() < 1
        assert torch.equal(intersection_over_union(step.own, step.other), torch.ones(2, dtype=torch.float64))


def test_scorer_keeps_no_attention():
    scorer = PairedScorer(ColumnSumScorer(), ColumnSumScorer())
    pipe = pipeline("sd")
    with SelfAttentionGuidance(scorer=scorer)(pipe) as guidance:
        run("sd", pipe)
    height, width = guidance.steps[0].mask.shape[-2:]
    assert [tuple(score.shape) for score in scorer.seen] == [(1, height, width)] * len(guidance.steps)


def test_batches_join_along_their_images():
    batches = [[StepMasks(0, 9.0, mask("x"), mask("."))], [StepMasks(0, 9.0, mask("."), mask("."))]]
    (step,) = join(batches)
    assert step.own.flatten().tolist() == [True, False]
    assert step.other.shape == (2, 1, 1)
    assert join([[], []]) == []
