"""`tokenrank explain`: what it writes and prints, and how it puts mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffseg.zero_shot import Generate, segment
from tokenrank_guidance.cli import explain, explain_strip
from tokenrank_guidance.pipelines import load_model

FAST = ("--device", "cpu", "--draws", 1)
PICTURES = Path(__file__).parents[2] / "examples" / "pictures"


@pytest.fixture
def photo(tmp_path):
    """A red field beside a noisy blue one, 40×60 pixels."""
    pixels = np.random.default_rng(0).integers(0, 90, (40, 60, 3), dtype=np.uint8)
    pixels[:, :30, 0], pixels[:, 30:, 2] = 220, 180
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def read(path):
    return np.asarray(Image.open(path))


def test_masks_are_those_of_the_bounces_and_the_result_describes_them(tokenrank, model, photo, tmp_path):
    out = tmp_path / "new" / "out"
    words = ("--concepts", "church, golf ball", "--resolution", 32)
    run = tokenrank("explain", photo, *words, "--model", model("tiny-flux"), *FAST, "--out", out)
    result = run.result
    names = {"explain.png", "mask-00.png", "mask-01.png", "result.json"}
    assert {path.name for path in out.iterdir()} == names
    assert json.loads((out / "result.json").read_text()) == result
    assert result["files"] == [str(out / name) for name in ("explain.png", "mask-00.png", "mask-01.png")]
    pipe = load_model(model("tiny-flux"), "cpu", torch.float32).pipe
    expected = segment(pipe, Image.open(photo), ["church", "golf ball"], draws=1, resolution=32)
    for i, (concept, mask) in enumerate(zip(result["concepts"], expected.masks, strict=True)):
        assert np.array_equal(read(out / f"mask-{i:02d}.png"), mask.numpy())
        assert concept["mask"] == f"mask-{i:02d}.png" and concept["concept"] == expected.concepts[i]
        assert concept["share"] == pytest.approx(mask.double().mean().item())
    assert (result["width"], result["height"], result["grid"]) == (60, 40, list(expected.heats.shape[1:]))
    assert (result["n"], result["seed"], result["command"]) == (1, 0, "explain")
    assert run.err.strip().splitlines()[-1] == f"picture: {out / 'explain.png'}"


def test_a_drawn_picture_is_the_pipelines(tokenrank, model, tmp_path):
    given = ("--prompt", "a photo of a church", "--concepts", "church", "--steps", 2, "--seed", 3)
    small = ("--height", 32, "--width", 48, "--model", model("tiny-flux"), "--device", "cpu")
    result = tokenrank("explain", *given, *small, "--out", tmp_path / "o").result
    pipe = load_model(model("tiny-flux"), "cpu", torch.float32).pipe
    request = Generate("a photo of a church", steps=2, seed=3, cfg=4.0, height=32, width=48)
    expected = segment(pipe, request, ["church"])
    assert np.array_equal(read(tmp_path / "o" / "image.png"), np.asarray(expected.image))
    assert np.array_equal(read(tmp_path / "o" / "mask-00.png"), expected.masks[0].numpy())
    assert (result["width"], result["height"], result["seed"]) == (48, 32, 3)


def test_options_reach_the_settings_and_the_columns(tokenrank, model, photo, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(explain, "strip", lambda image, columns, *rest: seen.append(columns) or image)
    options = ("--bounces", 1, 4, "--mask-bounces", 3, "--direction", "incoming", "--head-weights", "mean")
    more = ("--layers", 0, 1, "--timesteps", 100, 700, "--seed", 2, "--resolution", 32, *FAST)
    words = ("--concepts", "box", "--caption", "a red box")
    result = tokenrank(
        "explain", photo, *words, "--model", model("flux"), *options, *more, "--out", tmp_path / "o"
    ).result
    settings = result["config"]["settings"]
    asked = {"n": 3, "direction": "incoming", "head_weights": "mean", "layers": [0, 1], "seed": 2}
    asked |= {"timesteps": [100, 700], "draws": 1, "resolution": 32}
    assert {name: settings[name] for name in asked} == asked
    (columns,) = seen
    titles = ["row select", "column select", "1 bounce", "4 bounces", "TokenRank"]
    assert [column.title for column in columns] == titles
    assert [column.options.n for column in columns[2:4]] == [1, 4]
    assert columns[0].options.head_weights == "mean" and columns[2].options.direction == "incoming"
    assert columns[2].options.method == "bounce" and columns[2].note == "incoming"


def test_by_default_the_mask_is_on_the_object(tokenrank, tmp_path):
    """A yellow flower on brown ground; outgoing bounces, the default of before, mark the border as well."""
    flower = np.asarray(Image.open(PICTURES / "flower.png").convert("RGB")).astype(int)
    yellow = (flower[..., :2] > 130).all(-1) & (flower[..., 2] < 110)
    overlaps = {}
    for name, options in {"default": (), "outgoing": ("--direction", "outgoing")}.items():
        out = tmp_path / name
        given = ("--model", "tiny-flux", "--concepts", "flower", "--bounces", 2, *FAST, *options)
        tokenrank("explain", PICTURES / "flower.png", *given, "--out", out)
        mask = read(out / "mask-00.png") > 0
        overlaps[name] = (mask & yellow).sum() / (mask | yellow).sum()
    assert overlaps["default"] > max(0.55, overlaps["outgoing"] + 0.05)


def test_the_strip_names_rows_and_colours(tokenrank, model, photo, tmp_path, monkeypatch):
    written = []
    draw = explain_strip.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        explain_strip.ImageDraw.ImageDraw,
        "text",
        lambda self, place, text, *rest: written.append(text) or draw(self, place, text, *rest),
    )
    given = ("--concepts", "church, flower", "--resolution", 32, "--bounces", 2, *FAST)
    tokenrank("explain", photo, *given, "--model", model("tiny-flux"), "--out", tmp_path / "o")
    assert {"“church”", "“flower”", "within the image, λ2"} <= set(written)
    assert {"each map by itself: its 1% quantile", "its 99% quantile", explain.MEANING} <= set(written)


def test_unets_have_the_columns_they_can(tokenrank, model, photo, tmp_path):
    given = ("--concepts", "box", "--resolution", 32, "--model", model("sd"), *FAST)
    assert tokenrank("explain", photo, *given, "--out", tmp_path / "o").result["concepts"][0]["share"] < 1


@pytest.mark.parametrize("size", [(1, 1), (300, 2), (2, 300)])
def test_pictures_of_any_shape(tokenrank, model, tmp_path, size):
    Image.new("RGB", size, "green").save(tmp_path / "photo.png")
    given = ("--concepts", "church", "--resolution", 32, "--bounces", 1, "--model", model("tiny-flux"))
    tokenrank("explain", tmp_path / "photo.png", *given, *FAST, "--out", tmp_path / "o")
    height, width, _ = read(tmp_path / "o" / "explain.png").shape
    assert width > 700 and height < 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--concepts", " , "), "expected words such as 'church, sky', got ' , '"),
        (("--concepts", "dog", "--caption", "a cat"), "'dog' does not occur in the caption 'a cat'"),
        (("--concepts", "dog", "--prompt", "a dog"), "either a picture or a --prompt"),
        (("--concepts", "dog", "--timesteps", 1000), "timesteps: got (1000,)"),
        (("--concepts", "dog", "--bounces", 0), "expected a whole number ≥ 1"),
        (("--concepts", "dog", "--layers", "attn9"), "'attn9' is not an attention layer"),
        (("--concepts", "dog, dog"), "dog asked for more than once"),
        ((), "give --concepts, the words where walks start"),
        (("--concepts", "dog", "--frames", 3), "--frames would have no effect: IMAGE is read"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tokenrank, model, photo, tmp_path, options, message):
    out = tmp_path / "none"
    run = tokenrank("explain", photo, "--model", model("flux"), "--device", "cpu", *options, "--out", out)
    assert message in run.mistake
    assert not out.exists()


def test_one_of_picture_and_prompt(tokenrank, tmp_path):
    out = ("--concepts", "dog", "--out", tmp_path / "o")
    assert "either a picture or a --prompt" in tokenrank("explain", *out).mistake
    captioned = tokenrank("explain", "--prompt", "a dog", "--caption", "a dog", *out)
    assert "--caption would have no effect: a drawn picture is read under its own prompt" in captioned.mistake
    assert "cannot read" in tokenrank("explain", tmp_path / "none.png", *out).mistake
