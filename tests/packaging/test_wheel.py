"""The wheel, built, checked, and installed into an environment of its own: it works outside of a checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # tens of megabytes are packed twice


def run(*command: object, cwd: Path | None = None) -> str:
    """What a command prints, run without this checkout on Python's path."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of programs of a fresh environment: the wheel, and what it depends on from this one's."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    programs = home / "bin"
    run(sys.executable, "-m", "pip", "--python", programs / "python", "install", "-q", "--no-deps", wheel)
    (site,) = home.glob("lib/python*/site-packages")
    # A path in a .pth is searched after the environment's own packages, and its own .pth files are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return programs


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A user's folder, with experiments of their own in `eval/`, as most have them: without `__init__.py`."""
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "mine.py").write_text("found = 'theirs'")
    return tmp_path


def test_twine_finds_nothing_amiss(dist):
    files = sorted(dist.iterdir())
    assert [path.suffix for path in files] == [".whl", ".gz"]
    assert run(sys.executable, "-m", "twine", "check", "--strict", *files).count("PASSED") == 2


def test_the_comparison_is_drawn(installed, elsewhere):
    run(
        installed / "tokenrank",
        "sample",
        "--compare",
        "--steps",
        "2",
        "--n",
        "1",
        "--out",
        "o",
        cwd=elsewhere,
    )
    assert (elsewhere / "o" / "comparison.png").stat().st_size > 10_000


def test_it_is_the_wheel_that_runs(installed, elsewhere):
    code = "import tokenrank_guidance as t, sag as s, diffseg as d; print(t.__file__, s.__file__, d.__file__)"
    for path in run(installed / "python", "-c", code, cwd=elsewhere).split():
        assert Path(path).is_relative_to(installed.parent)


@pytest.mark.parametrize("start", [["tokenrank"], ["python", "-m", "tokenrank_guidance"]], ids=" ".join)
def test_experiments_run_where_the_user_has_an_eval(installed, elsewhere, start):
    program, *arguments = start
    said = run(installed / program, *arguments, "eval", "masking", "--help", cwd=elsewhere)
    assert said.startswith("usage: tokenrank eval masking ")


def test_an_experiment_runs_to_its_report(installed, elsewhere):
    run(
        *(installed / "tokenrank", "eval", "generate", "--n", "1", "--steps", "1", "--arms", "none"),
        *("--out", "drawn", "--model", "tiny-sd"),
        cwd=elsewhere,
    )
    assert list(elsewhere.glob("drawn/none/000/*.png"))


def test_a_users_own_eval_stays_importable(installed, elsewhere):
    """With a top-level package `eval` in the environment this fails: it would hide the folder."""
    code = "from eval.mine import found; print(found)"
    assert run(installed / "python", "-c", code, cwd=elsewhere) == "theirs\n"


def test_a_top_level_eval_would_hide_it(installed, elsewhere, tmp_path_factory):
    """Why the wheel has none: the same import with such a package in the environment."""
    site = tmp_path_factory.mktemp("site")
    (site / "eval").mkdir()
    (site / "eval" / "__init__.py").touch()
    code = f"import sys; sys.path.append({str(site)!r}); from eval.mine import found"
    with pytest.raises(AssertionError, match=r"No module named 'eval\.mine'"):
        run(installed / "python", "-c", code, cwd=elsewhere)


def test_experiments_as_calls(installed, elsewhere):
    code = (
        "from tokenrank_guidance.experiments import make_importable\nmake_importable()\n"
        "from eval.masking import SCORERS; print(*SCORERS)"
    )
    (elsewhere / "script.py").write_text(code)
    assert "rollout" in run(installed / "python", elsewhere / "script.py", cwd=elsewhere)
