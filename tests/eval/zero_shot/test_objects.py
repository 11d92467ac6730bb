"""Where pictures, masks and words come from."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from eval.data import UnreadableImage
from eval.zero_shot.objects import open_objects


def voc(root, masks):
    for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / part).mkdir(parents=True)
    for name, mask in masks.items():
        Image.new("RGB", (mask.shape[1], mask.shape[0])).save(root / "JPEGImages" / f"{name}.jpg")
        image = Image.fromarray(mask.astype(np.uint8), "L").convert("P")
        image.putdata(mask.flatten().tolist())
        image.save(root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(masks) + "\n")
    return root


def test_voc_takes_pictures_of_one_class(tmp_path):
    cat = np.array([[0, 8], [8, 255]])
    both = np.array([[0, 8], [12, 255]])
    dog = np.array([[12, 12], [0, 0]])
    found = open_objects(f"voc:{voc(tmp_path, {'a': cat, 'b': both, 'c': dog})}", None, None)
    assert list(found.words) == ["cat", "dog"] and len(found) == 2
    assert found[0].mask.tolist() == [[0, 1], [1, 255]]
    assert found[1].mask.tolist() == [[1, 1], [0, 0]] and found[1].word == "dog"


class Matlab(dict):
    """References of an HDF5 file, which are names here."""

    def close(self):
        pass


def test_imagenet_segmentation(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    mask = (rng.random((4, 6)) > 0.5).astype(np.uint8)
    file = Matlab(
        {
            "/value/img": np.array([["i0"]]),
            "/value/gt": np.array([["g0"]]),
            "i0": pixels.transpose(2, 1, 0),
            "g0": np.array([["m0"]]),
            "m0": mask.T,
        }
    )
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=lambda path, mode: file))
    path, names = tmp_path / "gtsegs_ijcv.mat", tmp_path / "names.txt"
    path.write_bytes(b"hdf5")
    names.write_text("golden retriever\n")
    found = open_objects(f"imagenet-seg:{path}", None, names)
    assert np.array_equal(np.asarray(found[0].image), pixels) and np.array_equal(found[0].mask, mask)
    assert found[0].word == "golden retriever" and len(found.config) == 2
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install h5py"):
        open_objects(f"imagenet-seg:{path}", "dog", None)


def test_other_masks_are_skipped(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for name, value in (("a", 1), ("b", 7), ("c", 0)):
        mask = np.zeros((4, 4), dtype=np.uint8)
        mask[0] = value
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"{name}.png")
    found = open_objects(str(tmp_path), "box", None)
    assert found[0].mask.sum() == 4
    with pytest.raises(UnreadableImage, match=r"values \[7\], expected 0, 1 and 255"):
        found[1]
    with pytest.raises(UnreadableImage, match="no pixel of the object"):
        found[2]
