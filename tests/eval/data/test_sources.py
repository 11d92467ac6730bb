"""Parquet files, folders and the Hub."""

import os
import pickle

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.data import UnreadableImage, listing, open_images, parquet, rows
from eval.fidelity import open_generated
from tests.eval.data.pictures import cells, encoded, index_mask, plain, write_table
from tokenrank_guidance.files.cells import image_bytes
from tokenrank_guidance.files.pictures import SUFFIXES

RED = [encoded(plain(v)) for v in range(5)]


def reds(source) -> list[int]:
    return [example.image.getpixel((0, 0))[0] for example in source]


def test_parquet_rows_come_in_order_and_in_any_order(tmp_path):
    labels = ["b", "a", None, "b", "a"]
    path = write_table(tmp_path / "x.parquet", {"image": cells(RED), "label": labels, "wnid": ["n1"] * 5})
    source = open_images(path)
    assert (len(source), source.name, source.has_masks) == (5, "x.parquet", False)
    assert source.label_names == ("a", "b")
    assert source.label_wnids == {"a": "n1", "b": "n1"}
    assert reds(source) == [0, 1, 2, 3, 4]
    assert [source[i].image.getpixel((0, 0))[0] for i in (4, 0, 3, -1)] == [4, 0, 3, 4]
    assert (source[3].index, source[3].label, source[3].wnid, source[3].mask) == (3, "b", "n1", None)
    with pytest.raises(IndexError):
        source[5]


def test_row_groups_longer_than_a_batch(tmp_path):
    images = [encoded(plain(i % 256)) for i in range(600)]
    source = open_images(write_table(tmp_path / "x.parquet", {"image": cells(images)}, group=550))
    for i in (0, 255, 256, 511, 512, 549, 550, 599):
        assert source[i].image.getpixel((0, 0))[0] == i % 256


def test_only_one_row_group_is_read(tmp_path, monkeypatch):
    source = open_images(write_table(tmp_path / "x.parquet", {"image": cells(RED)}, group=2))
    read, read_group = [], parquet._read_group

    def watched(path, group, columns):
        read.append(group)
        return read_group(path, group, columns)

    monkeypatch.setattr(parquet, "_read_group", watched)
    assert reds(source) == [0, 1, 2, 3, 4]
    assert read == [0, 1, 2]


def test_plain_bytes_class_labels_and_masks(tmp_path):
    masks = [index_mask([[0, 1, 255, 0]] * 3)] * 5
    columns = {"img": RED, "label": [1, 0, -1, 1, None], "mask": masks}
    source = open_images(write_table(tmp_path / "x.parquet", columns, names=["cat", "dog"]), limit=4)
    assert list(source.labels) == ["dog", "cat", None, "dog"]
    assert source.label_names == ("cat", "dog")
    assert source[0].mask.tolist() == [[0, 1, 255, 0]] * 3
    assert source[0].mask.dtype == np.int64


def test_integer_labels_without_names(tmp_path):
    source = open_images(write_table(tmp_path / "x.parquet", {"image": RED, "label": [3, 1, 4, 1, 5]}))
    assert source.label_names == ("1", "3", "4", "5")


def test_unreadable_rows_say_which_and_why(tmp_path):
    images = cells([RED[0], None, b"rubbish", RED[1][:30]])
    source = open_images(write_table(tmp_path / "x.parquet", {"image": images}))
    assert source[0].index == 0
    for i, reason in ((1, "no image in this row"), (2, "no image of a known format"), (3, "")):
        with pytest.raises(UnreadableImage, match=rf"image {i} cannot be read: .*{reason}") as caught:
            source[i]
        assert caught.value.index == i
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_sources_survive_pickling(tmp_path):
    source = open_images(write_table(tmp_path / "x.parquet", {"image": cells(RED)}))
    assert reds(source) == reds(pickle.loads(pickle.dumps(source)))


def test_digests_follow_the_contents(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"image": cells(RED)})
    first = open_images(path).digest
    assert len(first) == 64
    assert open_images(path).digest == first
    assert open_images(path, limit=2).digest != first
    write_table(path, {"image": cells(RED[::-1])})
    assert open_images(path).digest != first


@pytest.fixture
def classes(tmp_path):
    """A folder `photos` of two classes, one nested, beside what is no image."""
    for name, value in (("dog/2.PNG", 2), ("cat/deep/1.png", 1), ("dog/1.webp", 200)):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(plain(value), "WEBP" if name.endswith("webp") else "PNG", lossless=True))
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "photos" / ".cache").mkdir()
    return tmp_path / "photos"


def test_a_folder_of_classes(classes):
    source = open_images(classes)
    assert list(source.labels) == ["cat", "dog", "dog"]
    assert (source.label_names, source.name) == (("cat", "dog"), "photos")
    assert reds(source) == [1, 200, 2]
    assert len(open_images(classes, limit=1)) == 1
    assert len(open_images(classes.parent, split="photos")) == 3


def test_a_folders_digest_follows_names_and_contents(classes):
    first = open_images(classes).digest
    file = classes / "dog" / "2.PNG"
    content = file.read_bytes()
    file.write_bytes(encoded(plain(3)))
    assert open_images(classes).digest != first
    file.write_bytes(content)
    assert open_images(classes).digest == first
    file.rename(file.with_name("3.png"))
    assert open_images(classes).digest != first


def test_a_flat_folder_has_no_labels(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(RED[i])
    source = open_images(str(tmp_path))
    assert (list(source.labels), source.label_names) == ([None] * 3, ())


def test_images_beside_their_masks(tmp_path):
    for name, data in (("images/a.png", RED[1]), ("masks/a.png", index_mask([[1] * 4] * 3))):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    source = open_images(tmp_path)
    assert source.has_masks
    assert source[0].mask.sum() == 12
    (tmp_path / "images" / "b.png").write_bytes(RED[1])
    with pytest.raises(ValueError, match=r"no mask for b\.png"):
        open_images(tmp_path)


def test_an_unreadable_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    source = open_images(tmp_path)
    with pytest.raises(UnreadableImage, match="image 0"):
        source[0]
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UnreadableImage, match="No such file"):
        source[0]


@pytest.mark.parametrize("read", [open_images, lambda folder: open_generated([folder])[0]])
def test_every_format_is_taken_and_what_is_left_out_is_said(read, tmp_path, said):
    names = [f"{i:02d}{suffix}" for i, suffix in enumerate(SUFFIXES)]
    for name in (*names, "a.heic", "b.txt", "c.TXT", ".DS_Store"):
        (tmp_path / name).write_bytes(RED[0])
    os.mkfifo(tmp_path / "pipe.png")
    source = read(tmp_path)
    assert len(source) == len(SUFFIXES) >= 20
    (line,) = said
    assert line.startswith(f"4 files in {tmp_path} are left out: ")
    for reason in ("1 ending in .heic", "2 ending in .txt", "1 neither file nor folder", "end in .png, "):
        assert reason in line


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(listing, "say", lines.append)
    return lines


def test_links_out_of_the_folder_are_followed_only_if_asked_for(tmp_path, said, monkeypatch):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    (root / "a").mkdir(parents=True), (elsewhere / "b").mkdir(parents=True)
    (root / "a" / "0.png").write_bytes(RED[0]), (elsewhere / "b" / "1.png").write_bytes(RED[1])
    (root / "a" / "same.png").symlink_to("0.png")
    (root / "a" / "out.png").symlink_to(elsewhere / "b" / "1.png")
    (root / "a" / "gone.png").symlink_to("nowhere")
    (root / "a" / "round").symlink_to(root)
    (root / "b").symlink_to(elsewhere / "b")
    source = open_images(root)
    assert (list(source.labels), reds(source)) == (["a", "a"], [0, 0])
    assert "2 by links out of it (set TOKENRANK_FOLLOW_LINKS=1 to follow them)" in said[0]
    monkeypatch.setenv("TOKENRANK_FOLLOW_LINKS", "1")
    source = open_images(root)
    assert (list(source.labels), reds(source)) == (["a", "a", "a", "b"], [0, 1, 0, 1])


def test_a_link_that_changes_after_listing_is_not_followed(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "0.png").write_bytes(RED[0]), (tmp_path / "secret.png").write_bytes(RED[1])
    source = open_images(tmp_path / "root")
    (tmp_path / "root" / "0.png").unlink()
    (tmp_path / "root" / "0.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UnreadableImage, match=r"image 0 \(.*0\.png\) cannot be read: it leads out of"):
        source[0]


def test_a_parquet_file_opens_no_other_files_but_beside_it(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "beside.png").write_bytes(RED[3]), (tmp_path / "out.png").write_bytes(RED[4])
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    refused = {
        str(tmp_path / "out.png"): "its row names the file .*out.png; expected bytes, or a path relative to",
        "/dev/zero": "names the file /dev/zero",
        "../out.png": "leads out of",
        "link.png": "leads out of",
        "pipe.png": "a pipe, a socket or a device",
        ".": "a folder",
        "a\0b": "null byte",
        "gone.png": "No such file",
        "": "no image in this row",
    }
    column = [{"bytes": None, "path": path} for path in ("beside.png", *refused)]
    source = open_images(write_table(tmp_path / "in" / "x.parquet", {"image": column}))
    assert source[0].image.getpixel((0, 0))[0] == 3
    for index, (path, reason) in enumerate(refused.items(), 1):
        with pytest.raises(UnreadableImage, match=reason) as caught:
            source[index]
        assert caught.value.file == path


def test_the_hubs_own_cache_is_trusted_and_no_other_folder(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "0.png").write_bytes(RED[2]), (tmp_path / "1.png").write_bytes(RED[1])
    (tmp_path / "cache" / "link.png").symlink_to(tmp_path / "1.png")

    def read(name):
        return image_bytes({"bytes": None, "path": str(name)}, tmp_path / "cache", [tmp_path / "cache"])

    assert read(tmp_path / "cache" / "0.png") == read("0.png") == RED[2]
    for name in (tmp_path / "1.png", tmp_path / "cache" / "link.png", tmp_path / "cache" / ".." / "1.png"):
        with pytest.raises(ValueError, match=r"its row names the file .*1\.png|link\.png; expected bytes"):
            read(name)


def test_the_name_beside_the_bytes_is_said(tmp_path):
    column = [{"bytes": b"rubbish", "path": "n01440764_10.JPEG"}]
    source = open_images(write_table(tmp_path / "x.parquet", {"image": column}))
    with pytest.raises(UnreadableImage, match=r"image 0 \(n01440764_10\.JPEG\) cannot be read: it is"):
        source[0]


def test_large_cells_and_many_rows_are_refused(tmp_path, monkeypatch):
    path = write_table(tmp_path / "x.parquet", {"image": RED})
    monkeypatch.setenv("TOKENRANK_MOST_BYTES", "9")
    with pytest.raises(UnreadableImage, match=r"bytes; the limit is 9; set TOKENRANK_MOST_BYTES to raise it"):
        open_images(path)[0]
    monkeypatch.setenv("TOKENRANK_MOST_IMAGES", "4")
    with pytest.raises(ValueError, match="has 5 rows; the limit is 4; set TOKENRANK_MOST_IMAGES"):
        open_images(path)
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(RED[0])
    with pytest.raises(ValueError, match="the limit is 4"):
        open_images(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (b"[1, 2]", None),
        (b'{"info": 3}', None),
        (b'{"info": {"features": {"label": []}}}', None),
        (b"[" * 100_000, "metadata is not JSON"),
        (b"{", "metadata is not JSON"),
        (b'{"info": {"features": {"label": {"names": [1, 2]}}}}', "names of label are no list of texts"),
        (b'{"info": {"features": {"label": {"names": "ab"}}}}', "names of label are no list of texts"),
    ],
)
def test_metadata_of_any_kind(tmp_path, metadata, reason):
    table = pa.table({"image": RED, "label": [0, 1, 0, 1, 0]})
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "x.parquet")
    if reason is None:
        assert open_images(tmp_path / "x.parquet").label_names == ("0", "1")
        return
    with pytest.raises(ValueError, match=rf"x\.parquet is damaged: the Hugging Face .*{reason}"):
        open_images(tmp_path / "x.parquet")


def test_a_damaged_row_group_is_an_unreadable_row(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"image": [encoded(plain(i, (64, 64))) for i in range(4)]})
    data = bytearray(path.read_bytes())
    data[4:120] = bytes(116)
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match="its part of the file is damaged") as caught:
        open_images(path)[0]
    assert "\n" not in str(caught.value)


def mixed(folder):
    (folder / "a.png").write_bytes(RED[0])
    (folder / "c").mkdir()
    (folder / "c" / "b.png").write_bytes(RED[0])
    return folder


MISTAKES = {
    "empty folder": (lambda p: p, {}, "there is no image in"),
    "mixed folder": (mixed, {}, "expected one or the other"),
    "no split": (lambda p: p, {"split": "val"}, "no subfolder val"),
    "no file": (lambda p: p / "x", {}, "no file or folder .* expected a parquet file, a folder"),
    "no parquet": (lambda p: str(p / "x.parquet"), {}, "no file or folder"),
    "text": (lambda p: (p / "x.txt").write_text("x") and p / "x.txt", {}, "is not a parquet file"),
    "no image": (lambda p: write_table(p / "x", {"a": [1], "b": [2]}), {}, "no image column: it has a, b"),
    "type": (lambda p: write_table(p / "x", {"image": [1]}), {}, "column image of .* is int64; expected"),
    "no rows": (lambda p: write_table(p / "x", {"image": cells([])}), {}, "column image|has no rows"),
    "limit": (lambda p: write_table(p / "x", {"image": RED}), {"limit": 0}, "limit is 0"),
    "file split": (lambda p: write_table(p / "x", {"image": RED}), {"split": "val"}, "no split 'val'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, tmp_path):
    make, options, message = MISTAKES[name]
    source = make(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_images(source, **options)


@pytest.fixture
def hub(monkeypatch):
    """A Hub with one dataset, `some/cats`, of splits train and test."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    table = datasets.Dataset.from_dict({"image": cells(RED[:3]), "label": [1, 0, 1]}, features=features)

    def splits(name):
        if name != "some/cats":
            raise FileNotFoundError(f"Dataset '{name}' doesn't exist on the Hub")
        return ["train", "test"]

    monkeypatch.setattr(datasets, "get_dataset_split_names", splits)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: table)


def test_a_hub_dataset(hub):
    source = open_images("some/cats", split="test", limit=2)
    assert (source.label_names, list(source.labels)) == (("x", "y"), ["y", "x"])
    assert reds(source) == [0, 1]
    assert len(source.digest) == 64
    with pytest.raises(ValueError, match="splits train, test; got none"):
        open_images("some/cats")
    with pytest.raises(ValueError, match=r"no such dataset could be had from the Hub: .*doesn't exist"):
        open_images("some/dogs")


def test_rows_are_chosen_before_they_are_limited():
    assert rows(range(7)) == [0, 1, 2, 3, 4, 5, 6]
    assert rows(range(7), "even", 3) == [0, 2, 4]
    assert rows(range(7), "odd", 9) == [1, 3, 5]
    with pytest.raises(ValueError, match="'third' are unknown; expected one of all, even, odd"):
        rows(range(7), "third")
    with pytest.raises(ValueError, match="limit is 0"):
        rows(range(7), limit=0)


@pytest.mark.data
def test_the_evaluation_data(data_folder):
    source = open_images(data_folder / "camvid_val.parquet", limit=3)
    masks = [example.mask for example in source]
    assert len(masks) == 3
    assert set(np.unique(masks)) <= {*range(11), 255}
