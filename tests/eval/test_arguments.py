"""One spelling of each option everywhere, and the names of before."""

from argparse import ArgumentTypeError
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO

import pytest

from eval import arguments
from tokenrank_guidance import option_groups
from tokenrank_guidance.program import program

EXPERIMENTS = ("masking", "segmentation", "zero_shot", "zero_shot.heads")
SHARED = ("--model", "--data", "--split", "--rows", "--limit", "--out", "--seed", "--device", "--dtype")
GIVEN = ("--model", "m", "--data", "d", "--out", "o")
RENAMED = [
    ("masking", "--batch", "32", "batch_size", 32),
    ("segmentation", "--pipe", "tiny-sd", "model", "tiny-sd"),
    ("segmentation", "--vit", "timm/x", "model", "timm/x"),
    ("segmentation", "--timestep", "200", "timesteps", (200,)),
    ("zero_shot", "--pipe", "tiny-sd", "model", "tiny-sd"),
    ("zero_shot", "--n", "3", "bounces", 3),
    ("zero_shot.heads", "--pipe", "tiny-flux", "model", "tiny-flux"),
    ("zero_shot.heads", "--vit", "timm/x", "model", "timm/x"),
]


def parse(name, *argv):
    return import_module(f"eval.{name}.options").parse(argv)


def help_of(name):
    with redirect_stdout(StringIO()) as text, suppress(SystemExit):
        parse(name, "--help")
    return text.getvalue()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_the_same_words(name):
    text = help_of(name)
    assert all(f"{option} " in text for option in SHARED)
    asked = parse(name, *GIVEN, "--limit", "3", "--rows", "odd")
    assert (asked.model, asked.data, str(asked.out)) == ("m", "d", "o")
    assert (asked.rows, asked.limit, asked.seed, asked.device, asked.dtype) == (
        *("odd", 3, None, "auto", "float32"),
    )
    with pytest.raises(AttributeError):
        asked.model = "other"


@pytest.mark.parametrize(("name", "old", "value", "field", "expected"), RENAMED)
@pytest.mark.parametrize("joined", [False, True])
def test_old_names_go_on_working_with_a_warning(name, old, value, field, expected, joined, capsys):
    option_groups.warn_once.cache_clear()
    given = [f"{old}={value}"] if joined else [old, value]
    others = GIVEN if field != "model" else GIVEN[2:]
    for _ in range(2):
        assert getattr(parse(name, *others, *given), field) == expected
    said = capsys.readouterr().err
    assert said == f"warning: {old} is now called --{field.replace('_', '-')}\n"
    assert f"{old} " not in help_of(name)


def test_an_old_name_beside_the_new_one_is_refused(capsys):
    for first in ("--pipe", "--model"):
        assert program("eval.segmentation", [first, "a", "--vit", "b", *GIVEN[2:]]) == 2
        said = capsys.readouterr().err
        assert "error: argument --vit: it is now called --model: give one of them, once" in said
    assert program("eval.segmentation", ["--vit", "a", "--model", "b", *GIVEN[2:]]) == 2
    said = capsys.readouterr().err
    assert "error: argument --model: it was given under its former name already" in said


def test_layers_and_timesteps():
    assert arguments.layer_names("all") == "all" and arguments.layer_names("auto") == "auto"
    assert arguments.layer_names("1,-1, x.attn ,1") == (1, -1, "x.attn")
    assert arguments.timestep_list("250, 500") == (250, 500)
    for text in ("1000", "-1", "x", "1.5"):
        with pytest.raises(ArgumentTypeError, match="expected timesteps of 1000"):
            arguments.timestep_list(text)
    for asked in ("auto", "default", None):  # default: of before
        given = () if asked is None else ("--layers", asked)
        assert parse("zero_shot", *GIVEN, *given).common.layers == parse("zero_shot", *GIVEN).common.layers
