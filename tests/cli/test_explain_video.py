"""`tokenrank explain` of a model that draws videos."""

import diffusers as d
import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny_networks as tiny
from tests.matrix.building import seeded
from tests.matrix.factorised import animated
from tokenrank_guidance.pipelines import load_model
from tokenrank_guidance.videos import rank_video

DRAWN = ("--prompt", "a red box", "--frames", 3, "--height", 32, "--width", 48, "--steps", 2, "--seed", 3)


def saved(path, cls):
    """AnimateDiff, which reads its prompt."""
    text = {"text_encoder": seeded(tiny.clip), "tokenizer": tiny.tokenizer(77)}
    animated(cls, **text).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("video") / "animatediff", d.AnimateDiffPipeline)


def test_a_strip_of_frames_is_written(tokenrank, folder, tmp_path):
    result = tokenrank(
        "explain", *DRAWN, "--model", folder, "--device", "cpu", "--out", tmp_path / "o"
    ).result
    assert (result["grid"], result["width"], result["height"]) == ([3, 8, 12], 48, 32)
    assert result["files"] == [str(tmp_path / "o" / "explain.png")]
    pipe = load_model(str(folder), "cpu", torch.float32).pipe
    call = {"prompt": "a red box", "num_frames": 3, "height": 32, "width": 48, "num_inference_steps": 2}
    video = rank_video(pipe, call | {"generator": torch.Generator().manual_seed(3), "output_type": "pil"})
    for found, score in zip(result["frames"], video.scores, strict=True):
        assert found["mean"] == pytest.approx(score.mean().item())
        assert found["share"] == pytest.approx((score > 1).float().mean().item())
    strip = np.asarray(Image.open(tmp_path / "o" / "explain.png"))
    height, width, _ = strip.shape
    assert width > 3 * 150 and 2 * 100 < height < 320
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"explain.png", "result.json"}


@pytest.mark.matrix
def test_words_of_a_unet_are_walked_from(tokenrank, folder, tmp_path):
    asked = ("--concepts", "box", "--model", folder, "--device", "cpu", "--out", tmp_path / "o")
    result = tokenrank("explain", *DRAWN, *asked).result
    assert (result["grid"], result["frames"]) == ([3, 16, 24], [0, 1, 2])
    assert np.asarray(Image.open(tmp_path / "o" / "mask-00.png")).shape == (32, 3 * 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bounces", 2), "--bounces would have no effect"),
        (("--layers", "attn9"), "'attn9' is not an attention layer"),
    ],
)
def test_options_of_words_are_refused(tokenrank, folder, tmp_path, options, message):
    out = tmp_path / "none"
    run = tokenrank("explain", *DRAWN, *options, "--model", folder, "--device", "cpu", "--out", out)
    assert message in run.mistake
    assert not out.exists()


def test_a_picture_is_not_read(tokenrank, folder, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    out = ("--model", folder, "--device", "cpu", "--out", tmp_path / "o")
    said = tokenrank("explain", tmp_path / "a.png", *out).mistake
    assert "AnimateDiffPipeline draws videos and reads no picture; give a --prompt" in said


def test_what_draws_from_more_than_a_prompt_is_refused(tokenrank, tmp_path):
    path = saved(tmp_path / "model", d.AnimateDiffVideoToVideoPipeline)
    given = ("--prompt", "a red box", "--model", path, "--device", "cpu", "--out", tmp_path / "o")
    said = tokenrank("explain", *given).mistake
    assert "AnimateDiffVideoToVideoPipeline draws from more than a prompt (video)" in said
    assert "rank_video(pipe, arguments)" in said
