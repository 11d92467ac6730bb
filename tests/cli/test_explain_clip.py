"""`tokenrank explain` of words in a model that draws videos."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffseg.zero_shot import Generate, segment
from tests.tiny_drawn_readers import VIDEO_READERS
from tokenrank_guidance.pipelines import load_model

PROMPT = "a red box"
DRAWN = ("--prompt", PROMPT, "--frames", 5, "--height", 32, "--width", 24, "--steps", 1, "--seed", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "cogvideox"
    VIDEO_READERS["CogVideoX"].build().save_pretrained(path)
    return path


def read(path):
    return np.asarray(Image.open(path))


def test_a_videos_words_are_strips_of_frames(tokenrank, folder, tmp_path):
    out = tmp_path / "o"
    asked = ("--concepts", "red, box", "--bounces", 2, "--model", folder, "--device", "cpu", "--out", out)
    result = tokenrank("explain", *DRAWN, *asked).result
    names = ["explain.png", "image.png", "mask-00.png", "mask-01.png"]
    assert result["files"] == [str(out / name) for name in names]
    assert {path.name for path in out.iterdir()} == {*names, "result.json"}
    sizes = (result["grid"], result["frames"], result["width"], result["height"])
    assert sizes == ([3, 8, 6], [0, 2, 4], 24, 32)
    pipe = load_model(str(folder), "cpu", torch.float32).pipe
    request = Generate(PROMPT, steps=1, seed=3, height=32, width=24, frames=5)
    expected = segment(pipe, request, ["red", "box"])
    frames = np.concatenate([np.asarray(expected.frames[i]) for i in (0, 2, 4)], 1)
    assert np.array_equal(read(out / "image.png"), frames)
    for i, (concept, mask) in enumerate(zip(result["concepts"], expected.masks, strict=True)):
        assert np.array_equal(read(out / f"mask-{i:02d}.png"), np.concatenate([*mask[[0, 2, 4]]], 1))
        assert concept["share"] == pytest.approx(mask.double().mean().item())
    height, width, _ = read(out / "explain.png").shape
    rows = 1 + 5 + 4  # frames; row, column, bounces, TokenRank and mask; TokenRank is the same for every word
    assert width >= 3 * 112 and height > rows * 150


def test_without_words_tokens_are_ranked(tokenrank, folder, tmp_path):
    asked = ("--model", folder, "--device", "cpu", "--out", tmp_path / "o")
    result = tokenrank("explain", *DRAWN, *asked).result
    assert result["grid"] == [3, 8, 6] and len(result["frames"]) == 3 and "concepts" not in result
