"""What the wheel holds, by the build's own list of files; `test_wheel` builds and installs it."""

import ast
import tomllib
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

from tokenrank_guidance.cli import main
from tokenrank_guidance.extras import EXTRAS, require
from tokenrank_guidance.program import explained
from tokenrank_guidance.tiny.choices import NAMES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXPERIMENTS = "tokenrank_guidance/experiments/eval"


@pytest.fixture(scope="module")
def files():
    """The wheel's files, by their place in it."""
    return {one.distribution_path for one in WheelBuilder(str(ROOT)).recurse_included_files()}


def test_top_level_names(files):
    """No `eval`: it would hide everybody's own folder of that name (docs/internals/packaging.md)."""
    assert {Path(name).parts[0] for name in files} == {"tokenrank_guidance", "sag", "diffseg"}


@pytest.mark.parametrize(
    ("source", "target"),
    [(name, name) for name in ("tokenrank_guidance", "sag", "diffseg")] + [("eval", EXPERIMENTS)],
)
def test_every_module_and_the_mark_of_types_are_in_it(files, source, target):
    modules = {path.relative_to(ROOT / source).as_posix() for path in (ROOT / source).rglob("*.py")}
    assert len(modules) > 10
    assert {f"{target}/{name}" for name in modules | {"py.typed"}} <= files


def test_weights_and_statistics_are_in_it(files):
    for model in NAMES:
        assert f"tokenrank_guidance/tiny/weights/{model}/model_index.json" in files
        assert any(name.endswith(".safetensors") for name in files if f"/{model}/" in name)
    assert any(name.startswith(f"{EXPERIMENTS}/fidelity/shipped/") for name in files)


def test_nothing_else_is_in_it(files):
    suffixes = {Path(name).suffix for name in files if not ({"weights", "static"} & set(Path(name).parts))}
    assert suffixes <= {".py", ".typed", ".safetensors"}
    assert not any("test" in part for name in files for part in Path(name).parts)


def test_an_editable_install_is_the_checkout_and_copies_nothing(tmp_path):
    (made,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["editable"])
    with ZipFile(made) as wheel:
        copied = [name for name in wheel.namelist() if ".dist-info/" not in name]
        assert len(copied) == 1 and copied[0].endswith(".pth")
        assert Path(wheel.read(copied[0]).decode().strip()).samefile(ROOT)


def test_each_extra_in_the_code_is_the_projects():
    for extra, modules in EXTRAS.items():
        listed = {Requirement(line).name for line in PROJECT["optional-dependencies"][extra]}
        assert set(modules.values()) == listed


def test_the_programs_import_nothing_of_a_developers():
    """Modules that our packages name are of the standard library, of ours, or of a declared distribution."""
    needed = {Requirement(line).name for line in PROJECT["dependencies"]}
    developers = {Requirement(line).name for line in PROJECT["optional-dependencies"]["dev"]} - needed
    evals = set(EXTRAS["eval"])
    for package in ("tokenrank_guidance", "sag", "diffseg", "eval"):
        for path in (ROOT / package).rglob("*.py"):
            for name in _imported(path):
                assert name not in developers - evals, path
                assert package == "eval" or name not in evals - OPTIONAL, path


OPTIONAL = {"timm", "datasets", "sklearn"}  # models of timm, the trainer's data, --refine kmeans


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_a_missing_extra_is_one_line_with_the_command(monkeypatch, capsys):
    monkeypatch.setitem(EXTRAS, "eval", EXTRAS["eval"] | {"no_such_module": "no-such-package"})
    with pytest.raises(
        ImportError, match=r"needs no-such-package.*: pip install 'tokenrank-guidance\[eval\]'"
    ):
        require("eval")
    assert main(["eval", "tables", "--check"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.endswith("pip install 'tokenrank-guidance[eval]'\n")
    require("sag")


def test_a_missing_module_that_an_extra_has_is_named_with_the_command():
    said = explained(ModuleNotFoundError("No module named 'sklearn'", name="sklearn"))
    assert said == "this needs scikit-learn, not installed here: pip install 'tokenrank-guidance[eval]'"
    assert explained(ModuleNotFoundError("No module named 'x'", name="x")) == "No module named 'x'"


def test_the_project_says_where_it_is_and_for_whom():
    assert {"Homepage", "Documentation", "Repository", "Issues", "Changelog"} <= set(PROJECT["urls"])
    oldest = PROJECT["requires-python"].removeprefix(">=3.")
    assert f"Programming Language :: Python :: 3.{oldest}" in PROJECT["classifiers"]
    assert requires("tokenrank-guidance")
