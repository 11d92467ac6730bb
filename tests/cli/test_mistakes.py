"""Mistakes and interruptions: one line, the exit code, and no files."""

import pytest

from tokenrank_guidance import pipelines
from tokenrank_guidance.cli import arms, main

VALUES = {
    "steps": ["0", "-3", "2.5", "many"],
    "n": ["0"],
    "seed": ["-1", str(2**63)],
    "height": ["0"],
    "scale": ["-1", "nan", "strong"],
    "guidance": ["dag"],
    "scheduler": ["euler-b"],
    "dtype": ["int8"],
    "threshold": ["inf"],
    "damping": ["1", "0"],
    "head-weights": ["max"],
    "blur-sigma": ["0"],
    "start": ["1.5"],
    "stop": ["0"],
    "every": ["0"],
    "batch-size": ["0"],
    "device": ["toaster", "cuda:99"],
    "model": ["no-such-model", "a/b/c"],
}


@pytest.fixture
def no_sampling(monkeypatch):
    """Sampling, or even loading a model, fails the test."""

    def fail(*_):
        raise AssertionError("the mistake came to light too late")

    monkeypatch.setattr(pipelines, "load_model", fail)
    monkeypatch.setattr(arms.Study, "draw", fail)


@pytest.fixture
def late(monkeypatch):
    """Makes the second arm end in the given exception."""

    def install(error: BaseException) -> None:
        draw = arms.Study.draw

        def fail(study, name, *rest):
            if name == "sag":
                raise error
            return draw(study, name, *rest)

        monkeypatch.setattr(arms.Study, "draw", fail)

    return install


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("explain", "a.png", "b.png"), "unrecognized arguments: b.png (see tokenrank explain --help)"),
        (("sample", "--token", "3"), "unrecognized arguments: --token 3 (see tokenrank sample --help)"),
    ],
)
def test_what_a_command_does_not_take_leads_to_its_help(tokenrank, no_sampling, argv, line):
    assert tokenrank(*argv).mistake.endswith(line)


def test_a_link_with_an_unknown_name_is_refused(tokenrank, no_sampling, tmp_path):
    run = tokenrank("app", "--link", "tokens=3&n=2", "--export", tmp_path / "out")
    assert "--link: nothing is called tokens" in run.mistake


@pytest.mark.parametrize(("option", "value"), [(name, value) for name in VALUES for value in VALUES[name]])
def test_bad_value_is_one_line(tokenrank, tmp_path, option, value):
    run = tokenrank("sample", f"--{option}", value, "--out", tmp_path / "out")
    name = {"scale": "scale", "blur-sigma": "sigma", "head-weights": "weights"}.get(option, option)
    assert name in run.mistake
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [(), ("smaple",), ("sample", "--promt", "x"), ("sample", "--step", "3")]
)
def test_unknown_command_or_option_is_one_line(tokenrank, arguments):
    assert "--help" in tokenrank(*arguments).mistake


def test_help_names_the_command_and_its_options(capsys):
    for arguments, expected in (["--help"], "sample"), (["sample", "--help"], "--head-weights"):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        out, err = capsys.readouterr()
        assert expected in out and err == ""


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("flux", ("--prompt", "x", "--scheduler", "ddim"), ["FluxPipeline", "ddim", "flow-euler"]),
        ("sd", ("--prompt", "x", "--scheduler", "flow-euler"), ["flow-euler", "ddim"]),
        ("sd", (), ["--prompt"]),
        ("ddpm", ("--prompt", "x"), ["no --prompt"]),
        ("ddpm", ("--cfg", 3), ["--cfg"]),
        ("ddpm", ("--height", 64), ["--height"]),
        ("dit", ("--prompt", "1000"), ["1000"]),
        ("dit", ("--prompt", "a cat"), ["a cat"]),
        ("dit", ("--prompt", "1", "--negative-prompt", "2"), ["--negative-prompt"]),
        ("flux", ("--prompt", "x", "--negative-prompt", "y"), ["--cfg"]),
        ("sd", ("--prompt", "x", "--negative-prompt", "y", "--cfg", 1), ["--cfg"]),
        ("sd", ("--prompt", "x", "--layers", "nowhere"), ["nowhere"]),
    ],
)
def test_what_the_model_does_not_take_is_said_before_sampling(
    tokenrank, model, tmp_path, monkeypatch, name, options, words
):
    monkeypatch.setattr(arms.Study, "draw", None)
    mistake = tokenrank("sample", "--model", model(name), *options, "--out", tmp_path / "out").mistake
    assert all(word in mistake for word in words)
    assert not (tmp_path / "out").exists()


def test_what_the_pipeline_refuses_is_one_line(tokenrank, model, tmp_path):
    options = ("--prompt", "x", "--scheduler", "lcm", "--steps", 51, "--out", tmp_path / "out")
    assert "51" in tokenrank("sample", "--model", model("sd"), *options).mistake
    assert not (tmp_path / "out").exists()


def test_folder_that_is_no_pipeline_is_one_line(tokenrank, tmp_path):
    run = tokenrank("sample", "--model", tmp_path, "--prompt", "x", "--out", tmp_path / "out")
    assert "model_index.json" in run.mistake


def test_model_that_the_hub_lacks_is_one_line(tokenrank, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    run = tokenrank("sample", "--model", "nobody/nothing", "--prompt", "x", "--out", tmp_path / "out")
    assert "nobody/nothing" in run.mistake


@pytest.mark.parametrize("out", ["file", "file/folder", "file/image.png"])
def test_unwritable_output_is_found_before_the_model_is_loaded(tokenrank, no_sampling, tmp_path, out):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write" in tokenrank("sample", "--out", tmp_path / out).mistake
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("options", [("--compare",), ("--n", 2), ("--prompt", "x", "--prompt", "y")])
def test_one_png_has_room_for_one_image(tokenrank, no_sampling, tmp_path, options):
    assert "one image" in tokenrank("sample", *options, "--out", tmp_path / "image.png").mistake


def test_compare_chooses_the_guidance_itself(tokenrank, no_sampling, tmp_path):
    run = tokenrank("sample", "--compare", "--guidance", "sag", "--out", tmp_path)
    assert "--guidance" in run.mistake


def test_failure_in_the_middle_leaves_nothing(tokenrank, model, tmp_path, late):
    late(OSError("the disk is full"))
    options = ("--prompt", "x", "--steps", 1, "--device", "cpu", "--compare", "--out", tmp_path / "a" / "b")
    run = tokenrank("sample", "--model", model("sd"), *options)
    assert run.code == 2
    assert run.err.strip().splitlines()[-1] == "error: the disk is full"
    assert list(tmp_path.iterdir()) == []


def test_interruption_leaves_what_was_there(tokenrank, model, tmp_path, late):
    late(KeyboardInterrupt())
    (tmp_path / "result.json").write_text("earlier")
    options = ("--prompt", "x", "--steps", 1, "--device", "cpu", "--compare", "--out", tmp_path)
    run = tokenrank("sample", "--model", model("sd"), *options)
    assert (run.code, run.out) == (130, "")
    assert run.err.strip().splitlines()[-1] == "interrupted: nothing was written"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_text() == "earlier"
