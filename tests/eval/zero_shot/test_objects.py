"""Where pictures, masks and words come from."""

import sys
from argparse import ArgumentTypeError

import h5py
import numpy as np
import pytest
from PIL import Image

from eval.data import UnreadableImage
from eval.zero_shot.objects import open_objects
from eval.zero_shot.options import captioned, template


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


@pytest.fixture
def matlab(tmp_path):
    """ImageNet-Segmentation's file with three pictures: one as it should be, two that name other files."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    mask = (rng.random((4, 6)) > 0.5).astype(np.uint8)
    (tmp_path / "secret").write_bytes(b"s" * 72)
    path = tmp_path / "gtsegs_ijcv.mat"
    with h5py.File(path, "w") as file:
        whole = file.create_dataset("i0", data=pixels.transpose(2, 1, 0))
        outside = file.create_dataset("i1", (3, 6, 4), "u1", external=[(tmp_path / "secret", 0, 72)])
        layout = h5py.VirtualLayout((3, 6, 4), "u1")
        layout[:] = h5py.VirtualSource(tmp_path / "other.mat", "x", (3, 6, 4))
        virtual = file.create_virtual_dataset("i2", layout)
        masks = file.create_dataset("m0", data=mask.T)
        inner = file.create_dataset("g0", (1, 1), h5py.ref_dtype)
        inner[0, 0] = masks.ref
        file.create_dataset("value/img", (3, 1), h5py.ref_dtype)[:, 0] = [
            one.ref for one in (whole, outside, virtual)
        ]
        file.create_dataset("value/gt", (3, 1), h5py.ref_dtype)[:, 0] = [inner.ref] * 3
    (tmp_path / "names.txt").write_text("golden retriever\ncat\ndog\n")
    return path, pixels, mask


def test_imagenet_segmentation(matlab, monkeypatch):
    path, pixels, mask = matlab
    found = open_objects(f"imagenet-seg:{path}", None, path.with_name("names.txt"))
    assert np.array_equal(np.asarray(found[0].image), pixels) and np.array_equal(found[0].mask, mask)
    assert found[0].word == "golden retriever" and len(found.config) == 2
    for index in (1, 2):
        with pytest.raises(UnreadableImage, match="it is stored in other files, which are not opened"):
            found[index]
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install h5py"):
        open_objects(f"imagenet-seg:{path}", "dog", None)


def test_a_damaged_mat_file_is_an_unreadable_picture(matlab):
    path, _, _ = matlab
    with h5py.File(path, "a") as file:
        del file["value/gt"]
        file.create_dataset("value/gt", (3, 1), h5py.ref_dtype)
    found = open_objects(f"imagenet-seg:{path}", "dog", None)
    with pytest.raises(UnreadableImage, match="Invalid HDF5 object"):
        found[0]


def test_name_n_is_that_of_picture_n(matlab):
    path, _, _ = matlab
    names = path.with_name("names.txt")
    names.write_text("golden retriever\n\ndog\n")
    with pytest.raises(ValueError, match=r"names\.txt: line 2 is blank; line n is the name of picture n"):
        open_objects(f"imagenet-seg:{path}", None, names)
    names.write_bytes("\ufeffgolden\x85retriever\r\nb\r\nc".encode())
    assert open_objects(f"imagenet-seg:{path}", None, names).words[0] == "golden\x85retriever"


def test_a_damaged_voc_mask_is_named(tmp_path):
    root = voc(tmp_path, {"a": np.array([[0, 8], [8, 255]])})
    (root / "SegmentationClass" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a mask: "):
        open_objects(f"voc:{root}", None, None)
    (root / "ImageSets/Segmentation/val.txt").write_text("../../elsewhere\n")
    with pytest.raises(ValueError, match="cannot be read as a mask: "):
        open_objects(f"voc:{root}", None, None)


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


@pytest.mark.parametrize("caption", ["a {name}", "{name.__class__} {name}", "{0} {name} {", "{{name}}"])
def test_only_the_place_of_the_name_is_replaced(caption):
    assert captioned(template(caption), "{name!r} cat") == caption.replace("{name}", "{name!r} cat")
    with pytest.raises(ArgumentTypeError, match=r"expected a caption with \{name\} in it"):
        template("{name.__class__}")
