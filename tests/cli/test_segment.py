"""`tokenrank segment`: what it writes and prints, and how it puts mistakes."""

import json

import numpy as np
import pytest
from PIL import Image

from diffseg import DiffSeg
from diffseg.picture import colours, label_image, overlay
from tests.matrix.rows import ROWS
from tokenrank_guidance.devices import DTYPES
from tokenrank_guidance.pipelines import load_model

FAST = ("--device", "cpu", "--num-anchors", 32)


@pytest.fixture
def photo(tmp_path):
    """A red field beside a noisy blue one, 40×60 pixels."""
    pixels = np.random.default_rng(0).integers(0, 90, (40, 60, 3), dtype=np.uint8)
    pixels[:, :30, 0], pixels[:, 30:, 2] = 220, 180
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", ["tiny-flux", "sd", "dit", "ddpm"])
def test_label_map_is_the_segmentation_and_the_result_describes_it(tokenrank, model, photo, tmp_path, name):
    out = tmp_path / "new" / "out"
    run = tokenrank("segment", photo, "--model", model(name), *FAST, "--resolution", 32, "--out", out)
    result = run.result
    assert {path.name for path in out.iterdir()} == {"overlay.png", "labels.png", "result.json"}
    assert json.loads((out / "result.json").read_text()) == result
    labels = Image.open(out / "labels.png")
    assert (labels.mode, labels.size) == ("P", (60, 40))
    pipe = load_model(model(name), "cpu", DTYPES["float32"]).pipe
    expected = DiffSeg.from_pipe(pipe, num_anchors=32, resolution=32)(Image.open(photo))
    assert np.array_equal(np.asarray(labels), expected.labels.numpy())
    assert result["anchors"] == expected.anchors.tolist()
    assert result["thresholds"] == list(expected.thresholds)
    pixels = {part["label"]: part["pixels"] for part in result["segments"]}
    assert sum(pixels.values()) == 2400
    assert pixels == dict(zip(*np.unique(np.asarray(labels), return_counts=True), strict=True))
    for part in result["segments"]:
        assert labels.getpalette()[3 * part["label"] :][:3] == part["colour"]
    assert (result["n"], result["seed"], result["command"]) == (1, 0, "segment")
    assert result["config"]["settings"]["num_anchors"] == 32
    assert run.err.strip().splitlines()[-1] == f"picture: {out / 'overlay.png'}"


def test_options_reach_the_settings(tokenrank, model, photo, tmp_path):
    options = ("--anchors", "tokenrank-nms", "--kl-threshold", 0.2, 0.4, "--timestep", 50, "--add-noise")
    more = ("--refine", "kmeans", "--layers", 0, 1, "--damping", 0.9, "--seed", 3)
    result = tokenrank(
        "segment", photo, "--model", model("sd"), *FAST, *options, *more, "--out", tmp_path / "o"
    ).result
    settings = result["config"]["settings"]
    asked = {"anchors": "tokenrank-nms", "kl_threshold": [0.2, 0.4], "merges": 2, "timestep": 50, "seed": 3}
    asked |= {"add_noise": True, "refine": "kmeans", "layers": [0, 1], "damping": 0.9, "num_anchors": 32}
    assert {name: settings[name] for name in asked} == asked
    assert result["thresholds"] == [0.2, 0.4]


def test_preset_of_the_paper(tokenrank, model, photo, tmp_path):
    options = ("--preset", "reference", "--num-anchors", 36, "--device", "cpu")
    result = tokenrank("segment", photo, "--model", model("sd"), *options, "--out", tmp_path / "o").result
    assert result["thresholds"] == [1.1] * 3
    assert (result["config"]["settings"]["anchors"], len(result["anchors"])) == ("reference", 36)


def test_captions_name_segments(tokenrank, model, photo, tmp_path):
    options = ("--caption", "a red box", "--nouns", "box", "--vote", "mean")
    result = tokenrank(
        "segment", photo, "--model", model("sd"), *FAST, *options, "--out", tmp_path / "o"
    ).result
    assert {part["name"] for part in result["segments"]} == {"box"}


def test_embedded_models_work_at_more_than_their_own_size(tokenrank, model, photo, tmp_path):
    result = tokenrank("segment", photo, "--model", model("tiny-flux"), *FAST, "--out", tmp_path / "o").result
    assert result["config"]["settings"]["resolution"] == 256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kl-threshold", 0), "argument --kl-threshold: expected a number > 0 or 'auto', got '0'"),
        (("--anchors", "best"), "invalid choice: 'best'"),
        (("--num-anchors", 0), "expected a whole number ≥ 1"),
        (("--timestep", 1000), "timestep: got 1000"),
        (("--kl-threshold", 0.1, 0.2, "--merges", 3), "kl_threshold: got (0.1, 0.2)"),
        (("--nouns", "box"), "pass caption too"),
        (("--caption", "a red box", "--nouns", "cup"), "'cup' does not occur in the caption 'a red box'"),
        (("--preset", "reference", "--num-anchors", 10), "perfect square"),
        (("--layers", "attn9"), "'attn9' is not an attention layer"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tokenrank, model, photo, tmp_path, options, message):
    out = tmp_path / "none"
    run = tokenrank("segment", photo, "--model", model("sd"), "--device", "cpu", *options, "--out", out)
    assert message in run.mistake
    assert not out.exists()


@pytest.mark.parametrize("command", [("segment",), ("explain", "--concepts", "box")])
def test_pipelines_that_want_more_than_a_picture(tokenrank, photo, tmp_path, command):
    """An inpainting model sees an empty mask; a control image has no neutral value."""
    for name in ("StableDiffusionInpaint", "FluxControl"):
        ROWS[name].build().save_pretrained(tmp_path / name)
    name, *concepts = command
    options = ("--device", "cpu", "--resolution", 32, *concepts, "--out", tmp_path / "out")
    run = tokenrank(name, photo, "--model", tmp_path / "FluxControl", *options)
    assert "cannot segment with FluxControlPipeline: its denoiser takes 32 channels" in run.mistake
    assert not (tmp_path / "out").exists()
    result = tokenrank(name, photo, "--model", tmp_path / "StableDiffusionInpaint", *options).result
    assert (result["width"], result["height"]) == (60, 40)


def test_pictures_that_cannot_be_read(tokenrank, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    for name, reason in (
        ("text.png", "no image of a known format"),
        ("none.png", "No such file"),
        (".", "a folder"),
    ):
        run = tokenrank("segment", tmp_path / name, "--out", tmp_path / "o")
        assert "cannot read" in run.mistake and reason in run.mistake


def test_bombs_are_refused(tokenrank, monkeypatch, photo, tmp_path):
    monkeypatch.setenv("TOKENRANK_MOST_PIXELS", "100")
    mistake = tokenrank("segment", photo, "--out", tmp_path / "o").mistake
    assert "the limit is 100; set TOKENRANK_MOST_PIXELS to raise it" in mistake and str(photo) in mistake


def test_rotated_photographs_are_upright(tokenrank, model, tmp_path):
    turned = Image.new("RGB", (60, 40), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    result = tokenrank(
        "segment", tmp_path / "turned.jpg", "--model", model("sd"), *FAST, "--out", tmp_path / "o"
    ).result
    assert (result["width"], result["height"]) == (40, 60)


def test_pictures_of_any_shape(model):
    segmenter = DiffSeg.from_pipe(load_model(model("sd"), "cpu", DTYPES["float32"]).pipe, num_anchors=8)
    for size in ((1, 1), (300, 2), (2, 300), (64, 48)):
        picture = Image.new("RGB", size, "green")
        drawn = overlay(picture, segmenter(picture, caption="a red box"), "caption")
        assert drawn.width > 700 and drawn.height < 600


def test_too_many_segments_for_a_palette():
    import torch

    with pytest.raises(ValueError, match="257 segments are too many"):
        label_image(torch.arange(257)[None])
    assert len(set(colours(32))) == 32
