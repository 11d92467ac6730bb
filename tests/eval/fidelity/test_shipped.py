"""The reference statistics that come with the project."""

from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import Subset

from eval.fidelity.extractor import open_extractor
from eval.fidelity.real import FOLDER, find_reference, reference_images
from eval.fidelity.statistics import Gaussian

FILES = sorted(FOLDER.glob("*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_statistics_are_of_many_images_and_small(path):
    gaussian = Gaussian.load(path)
    values = np.linalg.eigvalsh(gaussian.covariance)
    assert np.isfinite(gaussian.mean).all()
    assert values[0] > -1e-6 * values[-1]
    assert gaussian.about["n"] > 10 * len(gaussian.mean)
    assert path.stat().st_size < 4e6


def test_the_embedded_models_images_are_among_them():
    assert any(Gaussian.load(path).about["source"] == "objects16_train128.parquet" for path in FILES)


@pytest.mark.parametrize(("side", "found"), [(64, 64), (128, 128), (None, 128)])
def test_shipped_statistics_are_chosen_by_the_images_size(side, found):
    known = SimpleNamespace(identity=Gaussian.load(FILES[0]).about["extractor"])
    assert find_reference("shipped", known, side).about["side"] == found


def test_a_size_that_nothing_is_shipped_for_is_refused():
    known = SimpleNamespace(identity=Gaussian.load(FILES[0]).about["extractor"])
    with pytest.raises(ValueError, match=r"objects16-64-\S+ .* of 64 pixels; expected 96"):
        find_reference("shipped", known, 96)


@pytest.mark.data
@pytest.mark.extended
@pytest.mark.parametrize("side", [64, 128])
def test_shipped_statistics_are_those_of_the_images(side, data_folder, tmp_path):
    extractor = open_extractor(f"vit:{data_folder.parent / 'models' / 'vit-tiny-imagenet'}", None)
    shipped = find_reference("shipped", extractor, side)
    images = reference_images(str(data_folder / shipped.about["source"]), side)
    some = Subset(images, range(0, len(images), 128))
    features = extractor(some)["features"].double().numpy()
    spread = np.sqrt(np.diag(shipped.covariance) / len(some))
    assert (np.abs(features.mean(0) - shipped.mean) < 6 * spread).all()
