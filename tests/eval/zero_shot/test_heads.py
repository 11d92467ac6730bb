"""`python -m eval.zero_shot.heads`: the correlation by hand, the heads by a dense oracle, the program."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from eval.metrics.confusion import mean_iou, totals
from eval.zero_shot.heads import HeadsResult, Picture, command, read_layer
from eval.zero_shot.heads.command import main
from eval.zero_shot.heads.result import spearman
from tests.diffseg.zero_shot import oracle
from tests.eval.squares import write_squares
from tests.matrix.rows import ROWS
from tests.tiny_models import pipeline
from tests.tiny_vits import build
from tokenrank_guidance import CaptureError
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.program import run

HEADS = 6


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Picture(rng.random(HEADS), rng.integers(1, 90, (2, HEADS, 2, 2)), rng.random((2, HEADS)))
        for _ in range(count)
    ]


def result(count):
    return HeadsResult(("row", "tokenrank"), ["a", "b"], np.repeat([0, 1], [4, 2]), pictures(count))


def test_ranks_are_correlated_as_scipy_does():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (5, 9)), rng.random((5, 9))  # with ties
    expected = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(spearman(x, y), expected, rtol=0, atol=1e-12)
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


@pytest.mark.parametrize("index", [0, 1])
def test_correlations_by_hand(index):
    found = result(7)
    lambda2 = np.mean([one.lambda2 for one in found.pictures], 0)
    miou = [
        mean_iou(totals(sum(one.confusion[index, head] for one in found.pictures))) for head in range(HEADS)
    ]
    precision = np.mean([one.precision[index] for one in found.pictures], 0)
    np.testing.assert_allclose(found.lambda2, lambda2)
    np.testing.assert_allclose(found.miou(index), miou)
    for metric, values in (("miou", np.array(miou)), ("map", precision)):
        one = found.correlation(index, metric, within=False)
        assert one.value == pytest.approx(spearmanr(lambda2, values).statistic)
        assert -1 <= one.low <= one.high <= 1 and one.n == 7
        inner = [np.concatenate([part - part.mean() for part in (v[:4], v[4:])]) for v in (lambda2, values)]
        within = found.correlation(index, metric, within=True)
        assert within.value == pytest.approx(spearmanr(*inner).statistic)


def test_the_interval_holds_what_other_pictures_give():
    """Heads whose λ2 and precision rise together: every resample says so."""
    lambda2 = np.arange(HEADS) / HEADS
    same = [Picture(lambda2, one.confusion, np.stack([lambda2, -lambda2])) for one in pictures(5)]
    found = HeadsResult(("row", "tokenrank"), ["a"], np.zeros(HEADS, dtype=int), same)
    up, down = (found.correlation(index, "map", within=False) for index in (0, 1))
    assert (up.value, up.low, up.high) == pytest.approx((1, 1, 1))
    assert (down.value, down.low, down.high) == pytest.approx((-1, -1, -1))
    heads = found.over_heads(0, "map", within=False)
    assert (heads.value, heads.low, heads.high) == pytest.approx((1, 1, 1)) and heads.n == HEADS


def test_few_heads_leave_a_wide_interval_however_many_the_pictures():
    """Thirty pictures that agree about six heads of no order."""
    found = HeadsResult(("row", "tokenrank"), ["a"], np.zeros(HEADS, dtype=int), pictures(1) * 30)
    one = found.correlation(0, "map", within=False)
    heads = found.over_heads(0, "map", within=False)
    assert one.low == pytest.approx(one.high) and heads.value == pytest.approx(one.value)
    assert heads.low + 0.5 < one.value < heads.high - 0.05


def test_heads_are_read_apart_as_a_dense_computation_does():
    g = torch.Generator().manual_seed(0)
    q, k = (3 * torch.randn(1, 2, 11, 4, generator=g, dtype=torch.float64) for _ in range(2))
    record = AttentionRecord(q, k, 0.5, grid=(3, 3), image=slice(2, None), text=slice(0, 2), module="x")
    found = read_layer(
        record, torch.eye(11, dtype=torch.float64)[1], ("row", "column", "bounce", "tokenrank")
    )
    walks = {"row": (1, "outgoing"), "column": (1, "incoming"), "bounce": (2, "outgoing")}
    for head, matrix in enumerate(oracle.dense_maps(record)):
        assert float(found.lambda2[head]) == pytest.approx(float(oracle.second_modulus(matrix)), rel=2e-3)
        alone = AttentionRecord(
            q[:, head : head + 1], k[:, head : head + 1], 0.5,
            grid=(3, 3), image=slice(2, None), text=slice(0, 2),
        )  # fmt: skip
        for name, (n, direction) in walks.items():
            expected = oracle.walk(alone, [1], n, direction, "mean", "layers")
            torch.testing.assert_close(found.heats[name][head].double(), expected, rtol=0, atol=1e-6)
        expected = oracle.limit(alone.restrict("image"), "mean", "layers")
        torch.testing.assert_close(found.heats["tokenrank"][head].double(), expected, rtol=0, atol=1e-6)
    bare = AttentionRecord(q, k, 0.5, module="x")
    with pytest.raises(CaptureError, match="x has no grid"):
        read_layer(bare, torch.eye(11, dtype=torch.float64)[1], ("row",))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    from transformers import ViTImageProcessor

    root = tmp_path_factory.mktemp("models")
    for name in ("flux", "sd"):
        pipeline(name).save_pretrained(root / name)
    ROWS["FluxControl"].build().save_pretrained(root / "control")
    build("vit_classifier").save_pretrained(root / "vit")
    build("siglip_vision").save_pretrained(root / "siglip")
    for name in ("vit", "siglip"):
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / name)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("data"), 4)


def arguments(model, data, out, *more):
    fixed = ("--size", "32", "--device", "cpu", "--concept", "box", "--out", str(out))
    noise = () if model.name in ("vit", "siglip") else ("--draws", "1")
    return ["--model", str(model), "--data", str(data), *fixed, *noise, *more]


@pytest.mark.extended
@pytest.mark.parametrize(("name", "layers", "heads"), [("flux", 4, 2), ("vit", 3, 2)])
def test_the_program(models, data, tmp_path, capsys, figures, name, layers, heads):
    assert run(main, arguments(models / name, data, tmp_path)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "report.json").read_text())
    assert found["n"] == 3 and found["skipped"] == {"unreadable": [2]} and len(found["layers"]) == layers
    assert [row["map"] for row in found["results"]] == ["row", "column", "bounce", "tokenrank"]
    for row in found["results"]:
        assert [one["layer"] for one in row["heads"]] == sorted([*range(layers)] * heads)
        assert all(0 <= one[key] <= 1 for one in row["heads"] for key in ("lambda2", "miou", "map"))
        expected = spearmanr([h["lambda2"] for h in row["heads"]], [h["miou"] for h in row["heads"]])
        assert row["spearman_miou"]["value"] == pytest.approx(expected.statistic)
        assert row["spearman_miou"]["n"] == 3 and row["spearman_miou_over_heads"]["n"] == layers * heads
    assert set(figures) == {"heads.png", "heads.svg"}
    for panel, row in zip(figures["heads.png"].axes, found["results"], strict=True):
        points = [tuple(point) for dots in panel.collections for point in dots.get_offsets().tolist()]
        assert points == [(h["lambda2"], pytest.approx(100 * h["miou"])) for h in row["heads"]]
        assert f"ρ {row['spearman_miou']['value']:+.2f}".replace("-", "−") in panel.get_title()


def test_resumes_without_repeating(models, data, tmp_path, capsys, monkeypatch):
    argv = arguments(models / "vit", data, tmp_path / "parts", "--maps", "row")
    calls, measured = [], command.measured

    def stop(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measured(*given)

    with monkeypatch.context() as patched:
        patched.setattr(command, "measured", stop)
        assert run(main, argv) == 130
    assert capsys.readouterr().out == ""
    kept = (tmp_path / "parts" / "images-0.jsonl").read_text()
    assert len(kept.splitlines()) == 2
    assert run(main, argv) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert (tmp_path / "parts" / "images-0.jsonl").read_text().startswith(kept)
    assert run(main, arguments(models / "vit", data, tmp_path / "whole", "--maps", "row")) == 0
    assert json.loads(capsys.readouterr().out)["results"] == resumed["results"]


def test_mistakes(models, data, tmp_path, capsys):
    def of(model, *more):
        assert run(main, arguments(models / model, data, tmp_path / "out", *more)) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and "Traceback" not in captured.err
        return captured.err.strip().splitlines()[-1]

    assert "has no text in its maps; FLUX, SD3 and others have" in of("sd")
    assert "its denoiser takes 32 channels, an image gives 16" in of("control")
    assert "has no class token for a walk to start at" in of("siglip")
    assert "expected some of row, column, bounce, tokenrank" in of("vit", "--maps", "best")
    assert "--vit: it is now called --model: give one of them, once" in of("vit", "--vit", "google/vit")
    assert "--draws would have no effect: a vision transformer is read once" in of("vit", "--draws", "2")
    assert not (tmp_path / "out" / "report.json").exists()
