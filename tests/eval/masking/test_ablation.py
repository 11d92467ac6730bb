"""The library call against a plain loop; what it says of the rankings."""

import numpy as np
import pytest
import torch

from eval.masking import Masking, MaskingResult, masking_ablation
from eval.masking.arms import Arm, Ranker, choose_arms, fixed_arms
from eval.masking.floor import image_seed
from eval.masking.scorers import SCORERS
from tests import tiny_vits
from tokenrank_guidance import capture
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.report import plain

FRACTIONS = (0.25, 0.5, 1.0)
SCORER_NAMES = ("random", "cls_attention", "tokenrank")
PATCH, GRID = tiny_vits.PATCH, (4, 4)


def batch(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 32, 32, generator=g), torch.arange(count) % tiny_vits.CLASSES


@torch.no_grad()
def plain_loop(model, images, labels) -> tuple[np.ndarray, np.ndarray]:
    """Rank and probability of the true class, masking one image, scorer and fraction at a time."""
    rank, probability = [], []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        with capture(model, 1) as maps:
            model(image[None])
        for name in SCORER_NAMES:
            score = SCORERS[name]([maps[0]], [image_seed(0, number)])[0]
            places = score.double().argsort(descending=True, stable=True)
            for fraction in (0.0, *FRACTIONS):
                masked = image.clone()
                for patch in places[: round(fraction * 16)].tolist():
                    row, column = divmod(patch, 4)
                    masked[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = 0
                logits = model(masked[None]).logits[0]
                rank.append((logits > logits[label]).sum().item())
                probability.append(logits.softmax(0)[label].item())
    shape = (len(images), len(SCORER_NAMES), 1 + len(FRACTIONS))
    return np.reshape(rank, shape), np.reshape(probability, shape)


def test_is_the_plain_loop():
    model, (images, labels) = tiny_vits.build("vit_classifier"), batch()
    result = masking_ablation(
        model, [(images, labels)], SCORER_NAMES, layers=1, masking=Masking(fractions=FRACTIONS)
    )
    rank, probability = plain_loop(model, images, labels)
    np.testing.assert_array_equal(result.rank, rank)
    np.testing.assert_allclose(result.probability, probability, rtol=1e-4)


@pytest.mark.parametrize("mask", ["zero", "mean", "blur", "drop"])
def test_does_not_depend_on_batches(mask):
    model, (images, labels) = tiny_vits.build("dinov2"), batch(5)
    masking = Masking(mask, (0.3, 0.8), forward=64, frechet=True)
    whole = masking_ablation(model, [(images, labels)], SCORER_NAMES, "all", masking)
    pairs = [(images[:3], labels[:3]), (images[3:], labels[3:])]
    parts = masking_ablation(
        model, pairs, SCORER_NAMES, "all", Masking(mask, (0.3, 0.8), forward=3, frechet=True)
    )
    np.testing.assert_array_equal(whole.rank, parts.rank)
    np.testing.assert_allclose(whole.probability, parts.probability, atol=1e-5)
    np.testing.assert_allclose(whole.features, parts.features, atol=1e-4)


def test_shared_masks_are_classified_once():
    model, (images, labels) = tiny_vits.build("vit_classifier"), batch(2)
    seen = []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    masking_ablation(model, [(images, labels)], ("centre", "random"), masking=Masking(fractions=(0.5, 1.0)))
    assert seen == [2, 4, 2]  # plain, two arms, and everything masked once


def test_drop_shortens_the_sequence():
    model, (images, labels) = tiny_vits.build("vit_classifier"), batch(2)
    lengths = []
    model.vit.layers[0].register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    masking_ablation(model, [(images, labels)], ("centre",), masking=Masking("drop", (0.25, 0.75)))
    assert lengths == [17, 13, 5]


def made_up(order: str = "descending") -> MaskingResult:
    """Two scorers, one at two layers; 40 images whose accuracy under each is known."""
    ranker = Ranker([Arm("random"), Arm("tokenrank", 0), Arm("tokenrank", 2)], ("a", "b", "c"))
    share = np.array([0.8, 0.5, 0.3])[:, None] * np.array([1.0, 1.0, 0.5])
    images = np.arange(40)[:, None, None] / 40
    rank = np.where(images < share, 0, 5)
    return MaskingResult(ranker, Masking(fractions=(0.5, 1.0), order=order), 16, rank, share + 0 * images)


def test_areas_intervals_and_differences():
    report = plain(made_up().to_json())
    results = report["results"]
    assert [row["auc"]["value"] for row in results] == pytest.approx([0.6, 0.375, 0.225])
    for row in results:
        low, high = row["auc"]["ci"]
        assert low < row["auc"]["value"] < high and row["auc"]["n"] == row["n"] == 40
    there, back = report["differences"]  # layer 2 is tokenrank's best
    assert (there["a"], there["b"]) == ("random", "tokenrank@2") == (back["b"], back["a"])
    assert back["metrics"]["auc"]["value"] == pytest.approx(-0.375)
    assert back["metrics"]["auc"]["ci"][1] < 0 and back["metrics"]["auc"]["n"] == 40
    point = results[0]["curve"][0]
    assert (point["fraction"], point["masked"]) == (0.5, 8)
    for name in ("top1", "top5", "probability"):
        assert point[name]["value"] == pytest.approx(0.8) and point[name]["n"] == 40
    assert point["top1"]["ci"][0] < 0.8 < point["top1"]["ci"][1]


def test_the_best_layer_is_the_highest_where_the_least_influential_go_first():
    assert made_up().best == {"random": 0, "tokenrank": 2}
    assert made_up("ascending").best == {"random": 0, "tokenrank": 1}


def test_the_tables_name_the_best_layer_first_and_every_layer():
    rankings, layers, others = made_up().markdown().split("\n\n")
    lines = rankings.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["tokenrank", "random"]
    assert "| 2 | 0.225 (" in lines[2] and "**−0.375 (−" in lines[2]
    cells = [line.strip("| ").split(" | ") for line in layers.splitlines()]
    assert cells[0] == ["layer", "tokenrank"] and [row[0] for row in cells[2:]] == ["0", "2"]
    assert cells[2][1].startswith("0.375 (") and cells[3][1].startswith("0.225 (")
    assert others.startswith("Of no single layer: random 0.600 (")
    first = made_up("ascending").markdown().splitlines()[2]
    assert first.startswith("| random | – | 0.600 (")


def test_frechet_grows_from_zero():
    model, (images, labels) = tiny_vits.build("vit_classifier"), batch(12)
    masking = Masking(fractions=(0.05, 0.9), frechet=True)  # no patch of 16, and nearly all
    curve = masking_ablation(model, [(images, labels)], ("centre",), masking=masking).to_json()["results"][0][
        "curve"
    ]
    assert curve[0]["masked"] == 1 and 0 <= curve[0]["frechet_vit"] < curve[1]["frechet_vit"]


def test_refusals():
    model = tiny_vits.build("vit_classifier")
    with pytest.raises(ValueError, match="there are no images to mask"):
        masking_ablation(model, [])
    with pytest.raises(ValueError, match="unknown scorer 'x'"):
        masking_ablation(model, [batch()], ("x",))
    with pytest.raises(ValueError, match="mask: got 'grey', expected one of zero, mean, blur, drop"):
        masking_ablation(model, [batch()], masking=Masking("grey"))
    with pytest.raises(ValueError, match="drop keeps at least one patch"):
        Masking("drop", (0.5, 1.0))
    with pytest.raises(ValueError, match=r"fractions: got \(0.0,\)"):
        Masking(fractions=(0.0,))
    with pytest.raises(
        UnsupportedError, match="cannot capture Linear: where its tokens are is not known here"
    ):
        masking_ablation(torch.nn.Linear(2, 2), [batch()])
    with pytest.raises(ValueError, match="has no class token"):
        masking_ablation(tiny_vits.build("siglip_classifier"), [batch()], ("cls_attention",))


def test_arms():
    model = tiny_vits.build("vit_classifier")
    ranker = choose_arms(model, ("random", "rollout", "tokenrank"), [-1, 0])
    assert [arm.key for arm in ranker.arms] == ["random", "rollout", "tokenrank@2", "tokenrank@0"]
    assert ranker.needed == ranker.layers and len(ranker.layers) == tiny_vits.BLOCKS
    assert choose_arms(model, ("tokenrank",), 1).needed == ranker.layers[1:2]
    fixed = fixed_arms(model, {"tokenrank": 1, "random": None})
    assert [arm.key for arm in fixed.arms] == ["tokenrank@1", "random"] and fixed.needed == ranker.layers[1:2]
    with pytest.raises(ValueError, match="scorer tokenrank at layer 7: the model has 3 layers"):
        fixed_arms(model, {"tokenrank": 7})
    with pytest.raises(ValueError, match="scorer random reads no attention, and was given layer 1"):
        fixed_arms(model, {"random": 1})


def test_leaves_no_hook_on_the_model():
    model, (images, labels) = tiny_vits.build("vit_classifier"), batch(2)
    measure_hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )
    masking_ablation(model, [(images, labels)], ("tokenrank",), masking=Masking("drop"))
    after = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    assert after == measure_hooks
