"""`tokenrank eval …`: every experiment, by the name it was called by, whatever else is called `eval` here."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tokenrank_guidance import experiments as home
from tokenrank_guidance.cli import main
from tokenrank_guidance.cli.experiments import experiments
from tokenrank_guidance.program import program

ROOT = Path(home.__file__).parents[2]


@pytest.fixture
def helped(capsys):
    """`helped(call)`: what a call that asks for help prints."""

    def run(call) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit, match="0"):
            call()
        return capsys.readouterr().out

    return run


def test_they_are_listed_with_one_line_each(helped):
    text = " ".join(helped(lambda: main(["eval", "--help"])).split())
    assert {
        "masking",
        "segmentation",
        "zero-shot",
        "fidelity",
        "generate",
        "guidance",
        "sweep",
        "tables",
    } <= (experiments().keys())
    for name, package in experiments().items():
        summary = import_module(f"{package}.options").SUMMARY
        assert f"{name} {summary}" in text and len(summary) <= 60
    assert " eval " in helped(lambda: main(["--help"]))


@pytest.mark.parametrize("name", experiments())
def test_the_parser_is_that_of_the_module_but_for_its_name(helped, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    package = experiments()[name]
    called, module = helped(lambda: main(["eval", name, "--help"])), helped(lambda: program(package, ["-h"]))
    assert called.startswith(f"usage: tokenrank eval {name} ")
    assert module == called.replace(f"tokenrank eval {name} ", f"python -m {package} ")


@pytest.mark.parametrize("spelt", ["zero_shot.heads", "zero-shot-heads", "zero_shot-heads"])
def test_a_package_s_own_spelling_works(helped, spelt):
    assert helped(lambda: main(["eval", spelt, "-h"])).startswith(f"usage: tokenrank eval {spelt} [-h]")


def test_a_mistake_names_what_was_called(tokenrank):
    assert tokenrank("eval", "masking", "--nope").mistake.endswith("(see tokenrank eval masking --help)")
    assert "invalid choice: 'nope'" in tokenrank("eval", "nope").mistake
    assert "required: EXPERIMENT" in tokenrank("eval").mistake


def test_the_report_names_the_command(monkeypatch):
    """What a report keeps as the command that made it."""
    seen = []
    command = ModuleType("command")
    command.main = lambda argv: seen.append(import_module("tokenrank_guidance.provenance").command())
    monkeypatch.setitem(sys.modules, "eval.tables.command", command)
    assert main(["eval", "tables", "--check"]) == 0
    assert program("eval.tables", ["--check"]) == 0
    assert seen == ["tokenrank eval tables --check", "python -m eval.tables --check"]


@pytest.mark.parametrize("marked", [True, False], ids=["package", "namespace"])
def test_a_users_own_eval_in_the_working_directory(tmp_path, marked):
    """`python -m` puts the working directory first on the path: there too the experiments are ours."""
    (tmp_path / "eval" / "masking").mkdir(parents=True)
    (tmp_path / "eval" / "masking" / "options.py").write_text("raise SystemExit('theirs')")
    if marked:
        (tmp_path / "eval" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "tokenrank_guidance", "eval", "masking", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: tokenrank eval masking ")


def test_another_eval_that_is_imported_already_is_named(monkeypatch, tmp_path, tokenrank):
    theirs = ModuleType("eval")
    theirs.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "eval", theirs)
    assert (
        f"another package eval is imported already, from {tmp_path}" in tokenrank("eval", "masking").mistake
    )


def test_experiments_that_were_left_out_are_said_to_be(monkeypatch, tmp_path, tokenrank):
    monkeypatch.setattr(home, "HERE", tmp_path / "a" / "b")
    assert "the experiments are not installed" in tokenrank("eval", "masking").mistake
