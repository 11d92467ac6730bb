"""The Fréchet distance: against SciPy's matrix root, and torch-fidelity called directly."""

import pickle

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch.utils.data import Dataset
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from eval.fidelity import extractor
from eval.fidelity.extractor import Extractor, extractor_of, open_extractor
from eval.metrics import frechet
from eval.metrics.frechet import frechet_from_features
from eval.metrics.vit_extractor import classifier_outputs, load_classifier, register_vit_extractor


class Pictures(Dataset):
    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def pictures(seed: int, n: int = 12, side: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def classifier():
    size = {"height": 16, "width": 16}
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
    )
    config.num_labels = 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTForImageClassification(config).eval()
    return model, ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.25] * 3)


def distance(a: torch.Tensor, b: torch.Tensor, by: Extractor) -> float:
    return frechet_from_features(*(by(Pictures(images))["features"] for images in (a, b)))


def by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    (mu_a, cov_a), (mu_b, cov_b) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a, b))
    return ((mu_a - mu_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)


def test_features_against_scipy():
    a, b = torch.randn(60, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).split(30)
    b = 2 * b + 1
    assert frechet_from_features(a, b) == pytest.approx(by_scipy(a.numpy(), b.numpy()), rel=1e-9)
    assert frechet_from_features(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_from_features(a, a + 2) == pytest.approx(6 * 4)


def test_covariances_are_divided_by_n_minus_one():
    a = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert frechet_from_features(a, 2 * a) == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(4, 3), r"\(1, 3\) and \(4, 3\), expected \(n ≥ 2, d ≥ 2\)"),
        (torch.zeros(4, 2), torch.zeros(4, 3), "expected"),
        (torch.zeros(4, 1), torch.zeros(4, 1), "expected"),
        (torch.zeros(4), torch.zeros(4), "expected"),
        (torch.zeros(4, 3), torch.full((4, 3), torch.nan), "not finite"),
    ],
)
def test_mistakes(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_from_features(a, b)


def test_a_classifiers_distance(classifier, capsys, monkeypatch):
    a, b, vit = pictures(0), pictures(1) // 2, extractor_of(*classifier)
    assert vit.label("fid") == "frechet_vit"
    found = distance(a, b, vit)
    features = [classifier_outputs(*classifier, images)["features"] for images in (a, b)]
    assert found == pytest.approx(frechet_from_features(*features), rel=1e-5)
    assert found == pytest.approx(by_scipy(*(x.double().numpy() for x in features)), rel=1e-3)
    assert distance(a, a, vit) == pytest.approx(0, abs=1e-3)
    monkeypatch.setattr(extractor, "BATCH", 5)
    assert distance(b, a, vit) == pytest.approx(found, rel=1e-4)
    assert capsys.readouterr().out == ""


def test_pixels_reach_the_model_as_the_processor_says(classifier):
    model, processor = classifier
    images = pictures(2, n=3, side=16)
    pixels = (images / 255 - 0.5) / 0.25
    with torch.no_grad():
        expected = model(pixels, output_hidden_states=True)
        normed = model.vit.layernorm(expected.hidden_states[-1])[:, 0]
    found = classifier_outputs(model, processor, images)
    torch.testing.assert_close(found["logits"], expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["features"], normed, atol=1e-5, rtol=1e-5)
    assert classifier_outputs(model, processor, pictures(3, 2, 31))["features"].shape == (2, 8)


def test_torch_fidelity_called_directly_agrees(classifier):
    import torch_fidelity

    a, b = Pictures(pictures(0)), Pictures(pictures(1) // 2)
    name = register_vit_extractor(*classifier)
    found = torch_fidelity.calculate_metrics(
        input1=a,
        input2=b,
        fid=True,
        kid=True,
        isc=True,
        kid_subset_size=8,
        kid_subsets=3,
        feature_extractor=name,
        cuda=False,
        verbose=False,
        save_cpu_ram=True,
        cache=False,
    )
    assert found["frechet_inception_distance"] == distance(a.images, b.images, extractor_of(*classifier))
    assert found["inception_score_mean"] >= 1


def test_the_name_is_that_of_the_weights_and_the_processor(classifier):
    model, processor = classifier
    name = register_vit_extractor(model, processor)
    assert register_vit_extractor(model, processor) == name
    other = ViTImageProcessor(size={"height": 8, "width": 8})
    assert register_vit_extractor(model, other) != name
    changed = ViTForImageClassification(model.config)
    assert register_vit_extractor(changed, processor) != name


def test_the_model_is_left_as_it_was(classifier):
    model, processor = classifier
    model.train()
    try:
        distance(pictures(0), pictures(1), extractor_of(model, processor))
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert not model.base_model._forward_hooks
    finally:
        model.eval()


def test_a_classifier_from_its_folder(classifier, tmp_path, capsys):
    for part in classifier:
        part.save_pretrained(tmp_path)
    capsys.readouterr()
    model, processor = load_classifier(tmp_path)
    assert capsys.readouterr().err == ""
    images = pictures(4, 2)
    torch.testing.assert_close(
        classifier_outputs(model, processor, images)["logits"],
        classifier_outputs(*classifier, images)["logits"],
    )


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_unknown_weights_are_never_unpickled(tmp_path):
    weights = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(ValueError, match="there is no file"):
        open_extractor("inception", weights)
    weights.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(
        ValueError, match=r"is not torch-fidelity's Inception: SHA-256 [0-9a-f]{64}, expected 6726825d"
    ):
        open_extractor("inception", weights)


@pytest.mark.slow
def test_inception_shaped_random_weights(tmp_path, monkeypatch):
    """The calling convention only: 2,048 features of random weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setattr(torch, "load", lambda *_, **__: {})
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"x")
    monkeypatch.setattr(frechet, "INCEPTION_SHA256", frechet.file_digest(weights))
    torch.manual_seed(0)
    images = pictures(0, n=4)
    assert distance(images, images, open_extractor("inception", weights)) == pytest.approx(0, abs=1e-3)
