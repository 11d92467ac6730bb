"""Models by name: heads from files, CLIP by the names of the classes."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPImageProcessor

from eval.masking.classifier import PromptClassifier
from eval.masking.loading import ClassifierChoice, imagenet_labels, load_classifier, read_head
from tests import tiny_networks, tiny_vits


def test_clip_tells_apart_the_classes_it_is_given(tmp_path):
    model = tiny_vits.build("clip")
    model.save_pretrained(tmp_path)
    tiny_networks.tokenizer(77).save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=32).save_pretrained(tmp_path)
    classifier, preprocessing = load_classifier(ClassifierChoice(str(tmp_path), classes=("red_box", "tree")))
    assert isinstance(classifier, PromptClassifier) and preprocessing.size == (32, 32)
    assert preprocessing.enlarged == 40 / 32 and list(classifier.labels) == ["red_box", "tree"]
    torch.testing.assert_close(classifier.texts.norm(dim=-1), torch.ones(2))
    with torch.no_grad():
        assert classifier(torch.randn(3, 3, 32, 32)).logits.shape == (3, 2)
    resized = load_classifier(ClassifierChoice(str(tmp_path), classes=("a",), resize=36))[1]
    assert resized.enlarged == 36 / 32
    with pytest.raises(ValueError, match="classifies by text: give the names of the classes"):
        load_classifier(ClassifierChoice(str(tmp_path)))
    with pytest.raises(ValueError, match="resize to 20 does not cover"):
        load_classifier(ClassifierChoice(str(tmp_path), classes=("a",), resize=20))


def test_reads_a_head_with_and_without_bias(tmp_path):
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.ones(2, 4)}, path, {"labels": json.dumps(["a", "b"])})
    weight, bias, names = read_head(path)
    assert weight.shape == (2, 4) and not bias.any() and names == ["a", "b"]


def test_refuses_other_heads(tmp_path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(ValueError, match="is not a safetensors file, or not a whole one: No such file"):
        read_head(path)
    save_file({"kernel": torch.ones(2, 4)}, path)
    with pytest.raises(ValueError, match=r"has no weight of \(classes, dim\): it holds kernel"):
        read_head(path)
    save_file({"weight": torch.ones(2, 4)}, path)
    with pytest.raises(ValueError, match="the names of 2 classes are not known"):
        read_head(path)
    save_file({"weight": torch.ones(2, 4)}, path, {"labels": '["a"]'})
    with pytest.raises(ValueError, match="names 1 labels for 2 classes"):
        read_head(path)


def test_imagenets_names():
    assert imagenet_labels(1000)[0] == "tench, Tinca tinca"
