"""Whatever a parser or a constructor is given, it takes it or says ValueError, in time."""

import inspect
import io
import re
from argparse import ArgumentTypeError
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffseg import Settings
from diffseg.zero_shot import Generate, Options
from eval.generate.arms import parse_arm
from eval.masking import Masking
from sag import RolloutScorer, SelfAttentionGuidance, TokenRankGuider, TokenRankScorer
from tokenrank_guidance.calls import Job, Sampling
from tokenrank_guidance.cli import _arguments
from tokenrank_guidance.markov import Arnoldi, MinimalResidual, PowerIteration

FEW, MANY = 60, 2000
PROGRAMS = {
    "sample": (_arguments, ["sample"]),
    "segment": (_arguments, ["segment", "x.png"]),
    "explain": (_arguments, ["explain", "--prompt", "x", "--concepts", "y"]),
    "app": (_arguments, ["app"]),
    **{
        f"eval.{name}": (import_module(f"eval.{name}.options").parse, given)
        for name, given in {
            "masking": ["--model", "m", "--data", "d", "--out", "o"],
            "segmentation": ["--model", "m", "--data", "d", "--out", "o"],
            "zero_shot": ["--model", "m", "--data", "d", "--out", "o"],
            "zero_shot.heads": ["--model", "timm/m", "--data", "d", "--out", "o"],
            "generate": ["--out", "o", "--n", "2"],
            "guidance": ["--model", "m", "--out", "o"],
            "fidelity.reference": ["--data", "d", "--classifier", "c", "--out", "o.safetensors"],
            "fidelity": ["x", "--out", "o", "--extractor", "vit:v"],
            "sweep": ["--out", "o", "--extractor", "vit:v"],
        }.items()
    },
    "tiny.train": (import_module("tokenrank_guidance.tiny.train.options").parse, ["tiny-sd", "--data", "d"]),
    "tiny.evaluate": (
        import_module("tokenrank_guidance.tiny.evaluate.options").parse,
        ["m", "--classifier", ".", "--data", "."],
    ),
}
CLASSES = {
    "SelfAttentionGuidance": (SelfAttentionGuidance, {}),
    "TokenRankGuider": (TokenRankGuider, {}),
    "TokenRankScorer": (TokenRankScorer, {}),
    "RolloutScorer": (RolloutScorer, {}),
    "Settings": (Settings, {}),
    "Options": (Options, {}),
    "Generate": (Generate, {"prompt": "x"}),
    "Sampling": (Sampling, {"steps": 1}),
    "Job": (Job, {"prompt": "x", "seed": 0}),
    "Masking": (Masking, {}),
    "Arnoldi": (Arnoldi, {}),
    "PowerIteration": (PowerIteration, {}),
    "MinimalResidual": (MinimalResidual, {}),
}
ODD = (
    *(
        "",
        " ",
        ",",
        ":",
        "{",
        "nan",
        "inf",
        "-1",
        "0",
        "1",
        "0.5",
        "1e400",
        "9" * 25,
        "9" * 5000,
        "x.png",
        "all",
    ),
    *(
        "~nobody/x",
        "\0",
        "a" * 300,
        "0:1:1e-9",
        "0:1:.1",
        "0:nan:1",
        "0:1:inf",
        "auto",
        "none,sag",
        "tokenrank:scale=nan",
        "pag:scale=inf",
    ),
)
TEXTS = st.one_of(st.sampled_from(ODD), st.text(max_size=12))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, 2**64, 10**400, -1, 0, 1, 1_000_001, np.int64(3), np.float64("nan"), 1j, b"x"]),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        ["mean", "hard", "auto", "all", (), [], {}, [[]], (1, "x"), ("auto",), torch.float16, object()]
    ),
    st.builds(lambda: np.zeros(3)),
    st.builds(lambda: torch.zeros(2)),
)


@cache
def options_of(name: str) -> list[str]:
    """The program's options, by its help."""
    parse, given = PROGRAMS[name]
    with redirect_stdout(io.StringIO()) as text, pytest.raises(SystemExit):
        parse([*given, "--help"])
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.getvalue())) - {"--help", "--version"})


def parsed(name: str, data: st.DataObject) -> None:
    parse, given = PROGRAMS[name]
    options = data.draw(st.lists(st.sampled_from(options_of(name)), min_size=1, max_size=2))
    more = [f"{option}={data.draw(TEXTS)}" if data.draw(st.booleans()) else option for option in options]
    with suppress(ValueError):
        parse([*given, *more])


def constructed(name: str, data: st.DataObject) -> None:
    make, given = CLASSES[name]
    known = [name for name in inspect.signature(make).parameters if not name.startswith("_")]
    field = data.draw(st.sampled_from(known))
    value = data.draw(VALUES)
    with suppress(ValueError):
        make(**given | {field: value})


pytestmark = pytest.mark.filterwarnings("ignore:.* is now called:DeprecationWarning")  # former names, too
within_time = {
    "deadline": 2000,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}


@pytest.mark.parametrize("name", PROGRAMS)
@settings(max_examples=FEW, derandomize=True, **within_time)
@given(data=st.data())
def test_parsers_say_value_error_or_nothing(name, data):
    parsed(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
@settings(max_examples=MANY, **within_time)
@given(data=st.data())
def test_parsers_say_value_error_or_nothing_many_times(name, data):
    parsed(name, data)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=FEW, derandomize=True, **within_time)
@given(data=st.data())
def test_constructors_say_value_error_or_nothing(name, data):
    constructed(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=MANY, **within_time)
@given(data=st.data())
def test_constructors_say_value_error_or_nothing_many_times(name, data):
    constructed(name, data)


@given(text=st.text(max_size=30))
@settings(max_examples=FEW, derandomize=True, **within_time)
def test_an_arm_is_read_or_refused(text):
    for written in (text, f"tokenrank:{text}", f"sag:scale={text}"):
        with suppress(ArgumentTypeError):
            parse_arm(written)


WITHOUT_EFFECT = {
    "sample": [
        ["--guidance", "none", "--scale", "1"],
        ["--guidance", "sag", "--damping", "0.5"],
        ["--prompt", "x", "--prompt", "x"],
    ],
    "segment": [["--vote", "mean"], ["--seed", "0"], ["--anchors", "uniform", "--damping", ".5"]],
    "explain": [["--timesteps", "5"], ["--draws", "2"], ["--caption", "y"], ["--resolution", "64"]],
    "app": [["--export", "d", "--host", "::"], ["--export", "d", "--max-upload", "3"]],
    "eval.masking": [["--scorers", "rollout", "--layers", "1"], ["--scorers", "tokenrank", "--seed", "1"]],
    "eval.segmentation": [["--tau-by", "miou"], ["--anchors", "uniform", "--damping", ".5"]],
    "eval.zero_shot": [
        ["--methods", "row", "--bounces", "2"],
        ["--methods", "row", "--blur", "1"],
        ["--methods", "concept-attention,rollout", "--curve", "0", "--damping", "0.9"],
        ["--methods", "daam", "--curve", "0", "--mix", "layers"],
        ["--methods", "bounce-chain", "--curve", "0", "--mix", "layers"],
    ],
    "eval.zero_shot.heads": [["--draws", "2"], ["--caption", "a {name}"], ["--seed", "1"]],
    "eval.generate": [
        ["--arms", "sag:damping=0.5"],
        ["--arms", "sag:scale=1:scale=2"],
        ["--arms", "none:scale=1"],
    ],
    "eval.fidelity": [["--resolution", "64"], ["--metrics", "isc", "--classifier", "c"], ["--extrapolate"]],
    "tiny.train": [
        ["--start-from", "x", "--autoencoder-images", "64"],
        ["--milestones", "600000"],
        ["--minutes", "1", "--images", "64"],
    ],
}
UNFIT = {
    "sample": [["--model", ""], ["--out", ""], ["--out", "x.jpg"], ["--n", "1000000000"], ["--cfg", "nan"]],
    "segment": [["--out", "x.png"], ["--merges", "100000"], ["--damping", "1"], ["--kl-threshold", "nan"]],
    "explain": [["--n", "100000"], ["--bounces", "100000"], ["--draws", "1000000"], ["--cfg", "inf"]],
    "app": [["--port", "70000"], ["--memory", "0"], ["--export", "x.png"], ["--link", ""], ["--image", ""]],
    "eval.masking": [["--data", ""], ["--fractions", "0:1:1e-9"], ["--out", "x.png"], ["--layers", ","]],
    "eval.segmentation": [["--merges", "100000"], ["--model", ""], ["--kl-threshold", "inf"]],
    "eval.zero_shot": [["--bounces", "100000"], ["--curve", "100000"], ["--timesteps", "1000"]],
    "eval.generate": [
        ["--threads", "5000"],
        ["--cfg", "nan"],
        ["--arms", "pag:scale=nan"],
        ["--seed", str(2**64)],
    ],
    "eval.sweep": [["--threads", "5000"], ["--scales", "nan"]],
    "tiny.train": [
        ["--images", "-5"],
        ["--batch", "0"],
        ["--rate", "nan"],
        ["--seed", str(10**15)],
        ["--resolution", "7"],
        ["--minutes", "0"],
        ["--views", "0"],
        ["--compile", "perhaps"],
    ],
    "tiny.evaluate": [["--scale", "inf"], ["--n", "0"], ["--seed", str(2**63 - 1)], ["--out", "x.json"]],
}


@pytest.mark.parametrize(
    ("name", "more"),
    [(name, more) for table in (WITHOUT_EFFECT, UNFIT) for name in table for more in table[name]],
)
def test_options_without_effect_and_values_that_nothing_can_be_done_with_are_refused(name, more):
    parse, given = PROGRAMS[name]
    with pytest.raises(ValueError, match=r"[a-z]") as caught:
        parse([*given, *more])
    option = [part for part in more if part.startswith("--")][-1]
    assert option.strip("-").split("-")[0] in str(caught.value) or ":" in more[-1]


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (Options, {"timesteps": 500}),
        (Options, {"n": 100_000}),
        (Options, {"seed": 2**63 - 1}),
        (Settings, {"seed": 2**63}),
        (Settings, {"merges": 100_000}),
        (SelfAttentionGuidance, {"blur_kernel": 1_000_001}),
        (SelfAttentionGuidance, {"sag_scale": float("nan")}),
        (TokenRankGuider, {"guidance_scale": float("nan")}),
    ],
)
def test_the_error_names_the_argument(make, changes):
    (name,) = changes
    with pytest.raises(ValueError, match=name):
        make(**changes)
