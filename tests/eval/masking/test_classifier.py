"""Classifiers behind one contract: logits are the model's own, features are what its head sees."""

import pytest
import torch
import torch.nn.functional as F

from eval.masking.classifier import HeadedClassifier, LinearProbe, PromptClassifier, find_head
from tests import tiny_vits
from tokenrank_guidance.errors import UnsupportedError

HEADED = ("vit_classifier", "deit", "dinov2", "siglip_classifier", "timm_vit", "timm_dinov2", "timm_dinov3")
LABELS = [f"class {i}" for i in range(tiny_vits.CLASSES)]


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", HEADED)
@torch.no_grad()
def test_logits_are_the_models_and_features_make_them(name):
    model = tiny_vits.build(name)
    prediction = HeadedClassifier(model, LABELS)(images())
    output = model(images())
    expected = output if isinstance(output, torch.Tensor) else output.logits
    assert torch.equal(prediction.logits, expected)
    torch.testing.assert_close(find_head(model)(prediction.features), expected)


@pytest.mark.parametrize(
    ("name", "prefix"), [("dinov2_registers", 4), ("dinov3", 5), ("timm_dinov2", 5), ("timm_vit", 1)]
)
@torch.no_grad()
def test_a_linear_head_on_class_token_or_with_the_mean_of_the_patches(name, prefix):
    model = tiny_vits.build(name)
    tokens = model.forward_features(images()) if "timm" in name else model(images()).last_hidden_state
    weight, bias = torch.randn(5, 64), torch.randn(5)
    narrow = LinearProbe(model, LABELS, weight[:, :32], bias, prefix)(images())
    torch.testing.assert_close(narrow.logits, F.linear(tokens[:, 0], weight[:, :32], bias))
    wide = LinearProbe(model, LABELS, weight, bias, prefix)(images())
    pooled = torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], 1)
    torch.testing.assert_close(wide.features, pooled)
    torch.testing.assert_close(wide.logits, F.linear(pooled, weight, bias))


def test_a_head_of_another_width_is_refused():
    probe = LinearProbe(tiny_vits.build("dinov3"), LABELS, torch.ones(5, 48), torch.zeros(5), 5)
    with pytest.raises(ValueError, match=r"48 numbers on a backbone of 32: expected 32 .* or 64"):
        probe(images())


@torch.no_grad()
def test_zero_shot_is_clips_own_similarity():
    model, given = tiny_vits.build("clip"), tiny_vits.inputs("clip")
    expected = model(**given)
    classifier = PromptClassifier(model, ["a", "b"], expected.text_embeds)
    prediction = classifier(given["pixel_values"])
    torch.testing.assert_close(prediction.logits, expected.logits_per_image)
    assert classifier.model is model.vision_model


def test_a_backbone_alone_does_not_classify():
    with pytest.raises(UnsupportedError, match=r"ViTModel does not classify.*Give a linear head"):
        find_head(tiny_vits.build("vit"))
