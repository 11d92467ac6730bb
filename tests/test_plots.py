"""Figures of any record: what is drawn, and what is refused."""

import numpy as np
import pytest
import torch

from tests.tiny_vits import build, inputs
from tokenrank_guidance import capture, multi_bounce, second_eigenvalue, tokenrank_score
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.plots import bounce_figure, lambda2_figure, tokenrank_figure


@pytest.fixture
def record():
    """Two pictures, three heads, 2 text tokens before a grid of 3×4."""
    g = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, 14, 8, generator=g) for _ in range(2))
    parts = {"image": slice(2, None), "text": slice(0, 2), "grid": (3, 4), "module": "blocks.0"}
    return AttentionRecord(q, k, 8**-0.5, **parts)


def drawn(panel):
    return np.asarray(panel.images[0].get_array())


def near(found, expected):
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [0, 1])
def test_tokenrank_is_of_the_image_tokens_with_mean_1(record, batch):
    figure = tokenrank_figure(record, batch=batch, damping=0.9)
    expected = tokenrank_score(record.restrict("image"), damping=0.9)[batch].view(3, 4)
    near(drawn(figure.axes[0]), expected)
    assert drawn(figure.axes[0]).mean() == pytest.approx(1)


def test_bounces_from_a_text_token_an_image_token_and_a_distribution(record):
    even = torch.zeros(14)
    even[:2] = 0.5
    for start, token in ((1, 1), ((2, 1), 2 + 2 * 4 + 1), (even, even)):
        figure = bounce_figure(record, start, (1, 4), head_weights="mean", direction="incoming")
        for panel, n in zip(figure.axes, (1, 4), strict=True):
            expected = multi_bounce(record, token, n, "incoming", "mean")[0, 2:].view(3, 4)
            near(drawn(panel), expected)
            mass = f"{100 * float(expected.sum()):.0f} % on image tokens"
            assert panel.get_title() == f"{n} bounce{'s' * (n > 1)}, incoming\n{mass}"
            marks = [line.get_xydata().tolist() for line in panel.lines]
            assert marks == ([[[1.0, 2.0]]] if start == (2, 1) else [])


def test_heads_that_walk_apart_are_averaged(record):
    figure = bounce_figure(record, 0, (2,), head_weights=None)
    near(drawn(figure.axes[0]), multi_bounce(record, 0, 2)[0].mean(0)[2:].view(3, 4))


def test_lambda2_by_layer_and_head(record):
    fewer = AttentionRecord(record.q[:, :2], record.k[:, :2], record.scale, module="blocks.1")
    panel = lambda2_figure([record, fewer], batch=1).axes[0]
    values = np.ma.filled(panel.images[0].get_array(), np.nan)
    for row, one in zip(values, (record, fewer), strict=True):
        np.testing.assert_allclose(row[: one.heads], second_eigenvalue(one)[1].numpy(), rtol=2e-3)
    assert np.isnan(values[1, 2]) and len(panel.texts) == 5
    assert [label.get_text() for label in panel.get_yticklabels()] == ["blocks.0", "blocks.1"]


def test_what_capture_gives_of_a_vit(tmp_path):
    with capture(model := build("dinov2_registers"), "all") as maps, torch.no_grad():
        model(**inputs("dinov2_registers"))
    for name, figure in (
        ("rank", tokenrank_figure(maps[-1])),
        ("bounce", bounce_figure(maps[-1], maps[-1].class_token)),
        ("lambda2", lambda2_figure(list(maps))),
    ):
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 3000


def test_a_flat_map_is_drawn(tmp_path):
    flat = AttentionRecord(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2), 1.0, grid=(1, 4))
    tokenrank_figure(flat).savefig(tmp_path / "flat.png")


def test_mistakes_are_named(record):
    bare = AttentionRecord(record.q, record.k, 1.0, module="blocks.7")
    with pytest.raises(ValueError, match=r"blocks\.7 has no grid of image tokens"):
        tokenrank_figure(bare)
    with pytest.raises(ValueError, match=r"start: \(3, 0\) is outside the grid of 3×4 tokens"):
        bounce_figure(record, (3, 0))
    with pytest.raises(ValueError, match="bounces: got none"):
        bounce_figure(record, 0, ())
    with pytest.raises(ValueError, match="records: got none"):
        lambda2_figure([])
    assert len(lambda2_figure(record).axes[0].get_yticks()) == 1
    with pytest.raises(IndexError):
        tokenrank_figure(record, batch=2)
    with pytest.raises(TypeError, match="got Tensor, expected an AttentionRecord"):
        tokenrank_figure(torch.eye(3))
