"""Where the truth comes from: benchmarks as tiny folders, and masks of two values."""

import json

import numpy as np
import pytest
from PIL import Image

from eval.data import UnreadableImage
from eval.segmentation.benchmarks import CITYSCAPES_NAMES, COCO_NAMES
from eval.segmentation.classes import name_classes
from eval.segmentation.scenes import open_scenes
from eval.segmentation.tally import ClassTally


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


def coco(root, fine):
    """One picture whose pixel map is `fine`; 0 is a person (9), 1 a bicycle (11)."""
    save(root / "val2017" / "000000000139.jpg", np.zeros((*np.shape(fine), 3)))
    save(root / "stuffthingmaps" / "val2017" / "000000000139.png", fine)
    (root / "val_ids.txt").write_text("000000000139\n")
    mapping = {"fine_index_to_coarse_index": {"0": 9, "1": 11, "181": 26}}
    (root / "fine_to_coarse.json").write_text(json.dumps(mapping))
    return f"coco-stuff27:{root}"


def test_coco_stuff_27(tmp_path):
    fine = np.full((256, 512), 255)
    fine[:, :128], fine[:, 128:256], fine[:, 256:384] = 1, 0, 181  # columns 128 to 384 are the centre
    scenes = open_scenes(coco(tmp_path, fine))
    scene = scenes[0]
    assert len(scenes) == 1 and scene.image.size == (512, 512) and scene.truth.shape == (512, 512)
    assert (scene.truth[:, :256] == 9).all() and (scene.truth[:, 256:] == 26).all()
    names = name_classes(scenes, 27).names
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 27
    assert (names[9], names[11], names[23], names[26]) == ("person", "vehicle", "sky", "water")


def test_coco_mistakes(tmp_path):
    with pytest.raises(OSError, match=r"there is no .*val_ids\.txt"):
        open_scenes(f"coco-stuff27:{tmp_path}")
    name = coco(tmp_path, np.zeros((8, 8)))
    (tmp_path / "fine_to_coarse.json").write_text('{"fine_index_to_coarse_index": {"0": 27}}')
    with pytest.raises(ValueError, match="does not map fine to coarse"):
        open_scenes(name)
    (tmp_path / "val_ids.txt").write_text("000000000139\n000000000724\n")
    with pytest.raises(ValueError, match=r"2 files are missing, the first of them .*000000000724\.jpg"):
        open_scenes(name)


def test_cityscapes(tmp_path):
    ids = np.full((128, 256), 7)  # road
    ids[:64] = 33  # bicycle
    ids[:10] = 3  # out of the region of interest
    save(tmp_path / "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", np.zeros((128, 256, 3)))
    with pytest.raises(ValueError, match=r"1 files are missing, .*ulm_0_gtFine_labelIds\.png"):
        open_scenes(f"cityscapes:{tmp_path}")
    save(tmp_path / "gtFine/val/ulm/ulm_0_gtFine_labelIds.png", ids)
    scene = open_scenes(f"cityscapes:{tmp_path}")[0]
    assert scene.truth.shape == (512, 512)
    assert set(np.unique(scene.truth)) == {0, 26, 255}
    assert (scene.truth[300:] == 0).all() and (scene.truth[50:250] == 26).all()
    assert len(CITYSCAPES_NAMES) == 27 and CITYSCAPES_NAMES[26] == "bicycle"
    with pytest.raises(ValueError, match="has no images"):
        open_scenes(f"cityscapes:{tmp_path / 'gtFine'}")


def folder(root, *masks):
    for i, mask in enumerate(masks):
        save(root / "images" / f"{i}.png", np.zeros((*np.shape(mask), 3)))
        save(root / "masks" / f"{i}.png", mask)
    return str(root)


def test_masks_without_names(tmp_path):
    scenes = open_scenes(folder(tmp_path, [[0, 1], [1, 255]], [[255, 255], [255, 255]]))
    assert name_classes(scenes, 2).names == ("background", "object")
    assert name_classes(scenes, 4).names == ("0", "1", "2", "3")
    with pytest.raises(UnreadableImage, match="no labelled pixel"):
        scenes[1]
    named = open_scenes(str(tmp_path), ("sky", "building"))
    assert name_classes(named, 2).names == ("sky", "building")
    with pytest.raises(ValueError, match="2 class names for masks with values up to 2"):
        name_classes(named, 3)


def test_the_foreground_is_of_its_labels_class(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder(tmp_path, [[0, 1]], [[1, 1]])
    rows = {
        name: [(tmp_path / kind / f"{i}.png").read_bytes() for i in range(2)]
        for name, kind in (("image", "images"), ("mask", "masks"))
    }
    pq.write_table(pa.table({**rows, "label": ["car", "boat"]}), tmp_path / "two.parquet")
    classes = name_classes(open_scenes(str(tmp_path / "two.parquet")), 2)
    assert classes.names == ("background", "boat", "car")
    tallies = [ClassTally(0, 1, 1, 1, 1.0), ClassTally(1, 1, 1, 1, 1.0)]
    assert [one.index for one in classes.place(0, tallies)] == [0, 2]
    assert [one.index for one in classes.place(1, tallies)] == [0, 1]
    np.testing.assert_array_equal(classes.columns(0, np.array([[3, 4]])), [[3, 0, 4]])


def test_images_alone_are_refused(tmp_path):
    save(tmp_path / "0.png", np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="has no masks"):
        open_scenes(str(tmp_path))
