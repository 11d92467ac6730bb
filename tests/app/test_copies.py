"""Copied programs, commands and files come to what is on the screen."""

import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from tests.app.conftest import ran
from tokenrank_guidance.app.code import python_of
from tokenrank_guidance.app.commands import command_of
from tokenrank_guidance.app.export import numbers_of
from tokenrank_guidance.app.segments import segmented, words_found
from tokenrank_guidance.app.state import Source, State, from_link
from tokenrank_guidance.app.watching import Watch
from tokenrank_guidance.files.pictures import open_picture

QUIET = Watch()


@pytest.fixture
def given(explorer, model, picture):
    """A state of a given picture."""
    digest = explorer.keep_picture(open_picture(picture))
    source = Source(model=model("sd"), picture=digest, caption="a red box", timestep=200)
    return State(source, n=2, token=5)


def program(explorer, state, picture, monkeypatch):
    captured = explorer.captured(state.source)
    return captured, ran(python_of(captured, state, picture.name), picture.parent, monkeypatch)


@pytest.mark.parametrize("name", ["tiny-sd", "tiny-flux"])
@pytest.mark.parametrize("heads", ["lambda2", "1"])
def test_python_of_a_walk(explorer, state, model, picture, monkeypatch, name, heads):
    asked = state.of(model=model(name), heads=heads, token=7, direction="incoming", step=1)
    captured, made = program(explorer, asked, picture, monkeypatch)
    shown = explorer.scene(asked)
    assert np.array_equal(made["heat"].numpy(), shown.heats[shown.shown].values)
    assert np.array_equal(np.asarray(made["image"]), np.asarray(captured.picture))


@pytest.mark.parametrize("token", [None, 5])
def test_python_of_rank_and_heads(explorer, given, picture, monkeypatch, token):
    asked = given.of(view="tokenrank", region=(1, 2), damping=0.9)
    _, made = program(explorer, asked, picture, monkeypatch)
    expected = explorer.scene(asked).heats[0].values
    assert np.allclose(made["heat"].numpy(), expected.size * expected, rtol=1e-6)
    asked = given.of(view="heads", token=token)
    captured, made = program(explorer, asked, picture, monkeypatch)
    for tile in explorer.scene(asked).tiles:
        place = captured.layers.index(tile.layer)
        assert made["lambda2"][place][tile.head].item() == tile.lambda2
        assert np.array_equal(made["heats"][place][tile.head].numpy(), tile.heat.values.flatten())


def test_python_of_a_vision_transformer(explorer, vit, picture, monkeypatch):
    digest = explorer.keep_picture(open_picture(picture))
    asked = State(Source(model=vit, picture=digest), token=0)
    _, made = program(explorer, asked, picture, monkeypatch)
    shown = explorer.scene(asked)
    assert np.array_equal(made["heat"].numpy(), shown.heats[shown.shown].values)
    asked = asked.of(view="segments", num_anchors=4)
    captured, made = program(explorer, asked, picture, monkeypatch)
    assert torch.equal(made["labels"], segmented(captured, asked, QUIET).labels)


def test_python_and_command_of_segments(explorer, given, picture, monkeypatch, tokenrank):
    asked = given.of(view="segments", num_anchors=4, threshold="1e-6")
    captured, made = program(explorer, asked, picture, monkeypatch)
    expected = segmented(captured, asked, QUIET).labels
    assert torch.equal(made["labels"], expected) and len(expected.unique()) > 1
    run_commands(command_of(captured, asked, picture.name), tokenrank)
    assert np.array_equal(np.asarray(Image.open("segments/labels.png")), expected.numpy())


@pytest.mark.extended
@pytest.mark.parametrize("drawn", [True, False])
def test_python_and_command_of_words(explorer, given, picture, monkeypatch, tokenrank, drawn):
    source = {"picture": "", "prompt": "a red box", "steps": 2} if drawn else {}
    asked = given.of(view="words", words="red, box", heads="mean", **source)
    captured, made = program(explorer, asked, picture, monkeypatch)
    expected = words_found(captured, asked, QUIET)
    assert torch.equal(made["heats"], expected.heats)
    assert np.array_equal(explorer.scene(asked).heats[0].values, expected.heats[0].numpy())
    run_commands(command_of(captured, asked, picture.name), tokenrank)
    mask = np.asarray(Image.open("explained/mask-00.png").convert("L")) > 127
    assert np.array_equal(mask, expected.masks[0].numpy())


def test_python_and_command_of_guidance(explorer, state, picture, monkeypatch, tokenrank, tmp_path):
    arms = ("sag", "tokenrank", "pag")
    asked = state.of(view="guidance", arms=arms, scale=1.5, pag_scale=2.5, steps=2, prompt="-a church-")
    captured, made = program(explorer, asked, picture, monkeypatch)
    monkeypatch.chdir(tmp_path)
    run_commands(command_of(captured, asked), tokenrank)
    scene = explorer.scene(asked)
    shown = dict(zip(("none", *asked.arms), scene.images.values(), strict=False))
    for name, image in shown.items():
        assert np.array_equal(np.asarray(image), np.asarray(made["images"][name]))
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(f"{name}.png")))
    masks = [step.mask[0].numpy() for name in ("sag", "tokenrank") for step in made["steps"][name]]
    assert all(np.array_equal(heat.values, mask) for heat, mask in zip(scene.heats, masks, strict=True))


@pytest.mark.parametrize("view", ["walk", "tokenrank", "heads"])
def test_the_command_of_other_views_writes_what_is_shown(
    explorer, given, picture, monkeypatch, tokenrank, view
):
    asked = given.of(view=view)
    monkeypatch.chdir(picture.parent)
    (result,) = run_commands(command_of(explorer.captured(asked.source), asked, picture.name), tokenrank)
    assert from_link(result["config"]["link"]) == asked
    expected = json.loads(json.dumps(numbers_of(explorer.scene(asked))))
    assert {name: result[name] for name in expected} == expected
    assert [(picture.parent / name).is_file() for name in result["files"]] == [True, True]


def run_commands(text, tokenrank):
    """The results of lines that a shell would run."""
    return [tokenrank(*shlex.split(line)[1:]).result for line in text.splitlines()]
