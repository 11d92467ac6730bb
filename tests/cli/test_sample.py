"""`tokenrank sample`: what it draws, writes and prints."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForText2Image
from PIL import Image

from sag import SelfAttentionGuidance
from sag.mask import MASKS
from tokenrank_guidance import pipelines
from tokenrank_guidance.calls import Job, Sampling, call_arguments
from tokenrank_guidance.cli import sample
from tokenrank_guidance.cli.comparison import Comparison
from tokenrank_guidance.cli.sample_options import add_arguments, images_of_each
from tokenrank_guidance.pipelines import load_model
from tokenrank_guidance.tiny.loader import load_folder

QUICK = ("--steps", 3, "--device", "cpu")
PROMPT = ("--prompt", "a church")


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def embedded(monkeypatch, model):
    """As if the untrained tiny-flux were shipped."""
    monkeypatch.setattr(pipelines, "available_models", lambda: ("tiny-flux",))
    folder = Path(model("tiny-flux"))
    monkeypatch.setattr(pipelines, "load_pipeline", lambda name, dtype: load_folder(folder, dtype=dtype))


@pytest.mark.parametrize("guided", [False, True])
def test_arm_is_the_pipeline_itself_bit_for_bit(tokenrank, model, tmp_path, guided):
    arm = "tokenrank" if guided else "none"
    tokenrank(
        "sample", "--model", model("sd"), *PROMPT, *QUICK, "--cfg", 5, "--guidance", arm, "--out", tmp_path
    )
    pipe = load_model(model("sd"), "cpu", torch.float32).pipe
    guidance = SelfAttentionGuidance(sag_scale=0.75 if guided else 0)
    with guidance(pipe):
        images = pipe(
            ["a church"] * 2, num_inference_steps=3, guidance_scale=5.0, generator=generators(0, 1)
        ).images
    for i, image in enumerate(images):
        assert np.array_equal(pixels(tmp_path / f"{arm}-{i:03d}.png"), np.asarray(image))


@pytest.mark.filterwarnings("ignore:You have disabled the safety checker:UserWarning")
def test_pag_is_diffusers_own(tokenrank, model, tmp_path):
    options = ("--model", model("tiny-sd"), *PROMPT, *QUICK, "--cfg", 5, "--guidance", "pag")
    result = tokenrank("sample", *options, "--out", tmp_path).result
    assert (result["config"]["scale"], result["arms"]["pag"]["denoiser_calls"]) == (3.0, 3)
    pipe = load_model(model("tiny-sd"), "cpu", torch.float32).pipe
    given = {"num_inference_steps": 3, "guidance_scale": 5.0, "generator": generators(0, 1), "pag_scale": 3.0}
    images = AutoPipelineForText2Image.from_pipe(pipe, enable_pag=True)(["a church"] * 2, **given).images
    for i, image in enumerate(images):
        assert np.array_equal(pixels(tmp_path / f"pag-{i:03d}.png"), np.asarray(image))


def test_pag_where_diffusers_has_none_or_an_option_that_it_does_not_read(tokenrank, model, tmp_path):
    options = ("sample", *PROMPT, *QUICK, "--guidance", "pag", "--out", tmp_path)
    assert "no PAG for FluxPipeline" in tokenrank(*options, "--model", model("tiny-flux")).mistake
    mistake = tokenrank(*options, "--model", model("sd"), "--threshold", 1).mistake
    assert "--threshold would have no effect: PAG" in mistake


def test_embedded_flux_is_guided_by_a_prompt_at_scale_4(tokenrank, model, tmp_path):
    tokenrank(
        "sample", "--model", model("tiny-flux"), *PROMPT, *QUICK, "--guidance", "none", "--out", tmp_path
    )
    images = load_folder(Path(model("tiny-flux")))(
        ["a church"] * 2,
        negative_prompt=[""] * 2,
        true_cfg_scale=4.0,
        num_inference_steps=3,
        generator=generators(0, 1),
    ).images
    assert np.array_equal(pixels(tmp_path / "none-001.png"), np.asarray(images[1]))


def test_scale_0_equals_no_guidance_and_costs_nothing(tokenrank, model, tmp_path):
    options = (
        "sample",
        "--model",
        model("sd"),
        *PROMPT,
        *QUICK,
        "--scale",
        0,
        "--compare",
        "--out",
        tmp_path,
    )
    result = tokenrank(*options).result
    arms = result["arms"]
    for name in ("sag", "tokenrank"):
        assert arms[name]["denoiser_calls"] == arms["none"]["denoiser_calls"] == 3
        assert arms[name]["steps"] == []
        assert arms[name]["mean_iou"] is None
        assert np.array_equal(pixels(tmp_path / f"{name}-001.png"), pixels(tmp_path / "none-001.png"))
    assert (tmp_path / "comparison.png").exists()


def test_result_says_what_was_asked_and_what_came_of_it(tokenrank, model, tmp_path):
    run = tokenrank(
        "sample", "--model", model("tiny-sd"), "--compare", "--n", 1, "--seed", 5, *QUICK, "--out", tmp_path
    )
    result = run.result
    assert set(result) == {"command", "config", "seed", "n", "versions", "arms", "files"}
    assert set(result["versions"]) == {"tokenrank-guidance", "torch", "diffusers", "transformers"}
    assert (result["seed"], result["n"]) == (5, 4)
    config = result["config"]
    assert (config["cfg"], config["steps"], config["n"]) == (4.0, 3, 1)
    assert (config["width"], config["height"], config["scheduler"]) == (32, 32, "DDIMScheduler")
    assert list(result["arms"]) == ["none", "sag", "tokenrank"]
    assert [result["arms"][arm]["denoiser_calls"] for arm in result["arms"]] == [3, 6, 6]
    for arm in ("sag", "tokenrank"):
        report = result["arms"][arm]
        assert [step["step"] for step in report["steps"]] == [1, 2, 3]
        assert all(set(step) == {"step", "timestep", "iou", "masked_fraction"} for step in report["steps"])
        assert all(0 < step["masked_fraction"] < 1 for step in report["steps"])
        mean = report["mean_iou"]
        assert set(mean) == {"value", "ci", "n"} and mean["n"] == 4
        assert 0 <= mean["ci"][0] <= mean["value"] <= mean["ci"][1] <= 1
        assert mean["value"] == pytest.approx(np.mean([step["iou"] for step in report["steps"]]))
        assert mean["value"] == pytest.approx(np.mean([image["iou"] for image in report["images"]]))
        assert {image["seed"] for image in report["images"]} == {5}
        assert all(pixels(image["file"]).shape == (32, 32, 3) for image in report["images"])
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["files"][0] == str(tmp_path / "comparison.png")
    assert {*result["files"], str(tmp_path / "result.json")} == {str(path) for path in tmp_path.iterdir()}
    assert run.err.strip().splitlines()[-1] == f"picture: {tmp_path / 'comparison.png'}"


def test_compare_writes_arms_sheets_and_comparison(tokenrank, model, tmp_path):
    out = tmp_path / "new" / "folder"
    tokenrank("sample", "--model", model("tiny-flux"), "--compare", *QUICK, "--prompt", "a car", "--out", out)
    images = {f"{arm}-{i:03d}.png" for arm in ("none", "sag", "tokenrank") for i in range(2)}
    sheets = {f"{arm}.png" for arm in ("none", "sag", "tokenrank")}
    assert {path.name for path in out.iterdir()} == images | sheets | {"comparison.png", "result.json"}
    assert not np.array_equal(pixels(out / "none-000.png"), pixels(out / "none-001.png"))


@pytest.mark.parametrize(("prompts", "each"), [(1, 2), (2, 2), (3, 1), (4, 1)])
def test_compare_draws_what_it_shows_and_no_more(prompts, each):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert images_of_each(parser.parse_args(["--compare"]), prompts) == each
    assert images_of_each(parser.parse_args(["--compare", "--n", "5"]), prompts) == 5
    assert images_of_each(parser.parse_args([]), prompts) == 2


def test_the_embedded_models_comparison_has_one_image_of_each_prompt_and_names_its_model(
    tokenrank, model, tmp_path, monkeypatch
):
    shown = []
    monkeypatch.setattr(sample, "Comparison", lambda *given: shown.append(Comparison(*given)) or shown[0])
    given = ("--model", model("tiny-flux"), "--compare", "--steps", 1, "--device", "cpu", "--out", tmp_path)
    result = tokenrank("sample", *given).result
    assert [len(arm["images"]) for arm in result["arms"].values()] == [4, 4, 4]
    assert len(set(result["config"]["prompt"])) == 4
    assert shown[0].caption.startswith("drawn by tiny-flux, 1 steps of ")
    assert shown[0].rows() == [0, 1, 2, 3]


def test_default_model_brings_prompts_and_one_png_takes_the_first(tokenrank, embedded, tmp_path):
    result = tokenrank("sample", "--steps", 2, "--device", "cpu", "--out", tmp_path / "one.png").result
    assert result["config"]["model"] == "tiny-flux"
    assert result["config"]["prompt"] == ["a photo of a church"]
    assert result["arms"]["tokenrank"]["images"][0]["file"] == str(tmp_path / "one.png")
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


def test_image_does_not_depend_on_n_or_batch(tokenrank, model, tmp_path):
    options = ("sample", "--model", model("sd"), *PROMPT, *QUICK, "--cfg", 5)
    tokenrank(*options, "--n", 3, "--out", tmp_path / "all")
    tokenrank(*options, "--n", 3, "--batch-size", 1, "--out", tmp_path / "each")
    tokenrank(*options, "--n", 1, "--seed", 2, "--out", tmp_path / "last.png")
    last = pixels(tmp_path / "each" / "tokenrank-002.png")
    assert np.array_equal(pixels(tmp_path / "last.png"), last)
    assert abs(pixels(tmp_path / "all" / "tokenrank-002.png") - last).max() <= 1  # a batch rounds differently


@pytest.mark.parametrize("name", ["sd", "flux", "sd3", "pixart", "dit", "ddpm"])
def test_every_family_is_compared(tokenrank, model, tmp_path, name):
    prompt = () if name == "ddpm" else ("--prompt", "7")
    size = () if name in ("dit", "ddpm") else ("--height", 32, "--width", 48)
    result = tokenrank(
        "sample", "--model", model(name), *prompt, *size, *QUICK, "--compare", "--out", tmp_path
    ).result
    for arm in ("sag", "tokenrank"):
        assert len(result["arms"][arm]["steps"]) == 3
        assert not np.array_equal(pixels(tmp_path / f"{arm}-000.png"), pixels(tmp_path / "none-000.png"))
    assert not np.array_equal(pixels(tmp_path / "sag-000.png"), pixels(tmp_path / "tokenrank-000.png"))


def test_stochastic_sampling_of_dit_repeats_itself(tokenrank, model, tmp_path):
    options = ("sample", "--model", model("dit"), "--prompt", 7, *QUICK, "--scheduler", "ddpm", "--n", 1)
    for name in ("first.png", "second.png"):
        assert tokenrank(*options, "--out", tmp_path / name).code == 0
    assert np.array_equal(pixels(tmp_path / "first.png"), pixels(tmp_path / "second.png"))


def test_dit_takes_the_name_of_a_class(model):
    pipe = load_model(model("dit"), "cpu", torch.float32).pipe
    pipe.labels = {"tench": 0, "church": 497}
    arguments = call_arguments(pipe, Sampling(steps=1), [Job("church", 0), Job("12", 1)])
    assert arguments["class_labels"] == [497, 12]


def test_guidance_options_reach_the_guidance(tokenrank, model, tmp_path):
    when = ("--start", 0.3, "--stop", 0.9, "--every", 2, "--reuse", 2)
    options = ("--model", model("sd"), *PROMPT, "--steps", 10, *when, "--threshold", 1e6, "--layers", 0, 1)
    steps = tokenrank("sample", *options, "--out", tmp_path).result["arms"]["tokenrank"]["steps"]
    assert [step["step"] for step in steps] == [4, 8]  # of 4, 6 and 8, the second adds what the first gave
    assert all(step["masked_fraction"] == 0 and step["iou"] == 1 for step in steps)


def test_soft_masks_reach_the_images(tokenrank, model, tmp_path):
    options = ("sample", "--model", model("sd"), *PROMPT, *QUICK, "--n", 1)
    results = [tokenrank(*options, "--mask", mask, "--out", tmp_path / mask).result for mask in MASKS]
    hard, soft = (result["arms"]["tokenrank"]["steps"] for result in results)
    assert soft[0] == hard[0]  # of soft masks, the tokens blurred by more than half
    assert [result["config"]["mask"] for result in results] == list(MASKS)
    images = [pixels(tmp_path / mask / "tokenrank-000.png") for mask in MASKS]
    assert not np.array_equal(*images)


def test_keeping_contrast_reaches_the_images(tokenrank, model, tmp_path):
    options = ("sample", "--model", model("sd"), *PROMPT, *QUICK, "--n", 1)
    assert tokenrank(*options, "--keep-contrast", 0, "--out", tmp_path / "0.png").code == 0
    former = tokenrank(*options, "--rescale", 0, "--out", tmp_path / "former.png")
    assert "warning: --rescale is now called --keep-contrast" in former.err
    assert np.array_equal(pixels(tmp_path / "former.png"), pixels(tmp_path / "0.png"))
    assert tokenrank(*options, "--keep-contrast", 1, "--out", tmp_path / "1.png").code == 0
    assert not np.array_equal(pixels(tmp_path / "0.png"), pixels(tmp_path / "1.png"))


def test_unknown_word_is_one_line_of_warning(tokenrank, model, tmp_path):
    options = ("--prompt", "a purple zebra", *QUICK, "--guidance", "none")
    run = tokenrank("sample", "--model", model("tiny-sd"), *options, "--out", tmp_path)
    assert run.code == 0
    warnings = [line for line in run.err.replace("\r", "\n").splitlines() if "unknown to this model" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: unknown to this model: purple, zebra")
