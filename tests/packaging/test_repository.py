"""What a visitor's first files say is so: workflow, templates, citation, changelog, guide."""

import re
import shlex
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

from tokenrank_guidance import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOME = PROJECT["project"]["urls"]["Repository"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE))


def runs(job: str) -> list[str]:
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


def steps():
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def check_command(command: str) -> None:
    """A command of a page or the workflow: its target, or its module and paths, exist."""
    program, *arguments = shlex.split(command)
    if program == "make":
        assert {one for one in arguments if "=" not in one} <= TARGETS
        return
    assert program.startswith(".venv/bin/") or program == "python", command
    for path in (one for one in arguments if "/" in one and not one.startswith("-")):
        assert (ROOT / path).exists(), command
    if "-m" in arguments[:1] and "." in arguments[1]:
        module = ROOT / Path(*arguments[1].split("."))
        assert (module / "__main__.py").is_file() or module.with_suffix(".py").is_file(), command


@pytest.mark.parametrize("command", [step["run"] for step in steps() if "run" in step])
def test_a_command_of_the_workflow_exists(command):
    check_command(command)


def test_the_two_commands_run_on_every_version_and_system():
    matrix = WORKFLOW["jobs"]["two-commands"]["strategy"]["matrix"]
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    assert matrix["python"] == versions
    assert f">={versions[0]}" == PROJECT["project"]["requires-python"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    assert runs("two-commands") == ["make demo", "make test", "make extended"]
    assert any("tests/packaging" in command and "slow" in command for command in runs("wheel"))


def test_the_workflow_may_only_read_and_its_actions_have_versions():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    actions = [step["uses"] for step in steps() if "uses" in step]
    assert len(actions) > 4
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions)
    assert {"pull_request", "push"} <= WORKFLOW[True].keys()  # YAML 1.1 reads `on` as true


def test_the_demo_installs_no_developers_tools():
    demo = re.search(r"^demo: (\S+)\n", MAKEFILE, re.MULTILINE)[1]
    assert demo == "$(VENV)/.package"
    recipe = MAKEFILE.split(f"{demo}: pyproject.toml\n")[1].split("\n\n")[0]
    assert recipe.splitlines()[1] == "\t$(PIP) -e ."


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem
)
def test_an_issue_template_is_one(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert all(link["url"].startswith(HOME) for link in form["contact_links"])
        return
    assert {"name", "description", "body"} <= form.keys()
    kinds = [(part["type"], part["id"], part["attributes"]["label"]) for part in form["body"]]
    assert {kind for kind, *_ in kinds} <= {"input", "textarea"}
    assert len({name for _, name, _ in kinds}) == len(kinds)


def test_the_citation_is_of_this_version():
    """With the fields that the Citation File Format 1.2.0 requires."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert citation["title"] == PROJECT["project"]["name"]
    assert citation["version"] == PROJECT["project"]["version"] == __version__
    assert (citation["license"], citation["repository-code"]) == (PROJECT["project"]["license"], HOME)
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
        assert all({"family-names", "given-names"} == set(author) for author in reference["authors"])


def test_the_changelog_has_this_release_and_a_head_for_the_next():
    heads = re.findall(
        r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )
    assert heads[0] == ("Unreleased", "")
    version, day = heads[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert version == __version__ and date.fromisoformat(day) == citation["date-released"]


def test_what_the_guide_names_is_there():
    paths = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", GUIDE) + re.findall(r"\]\(([\w./-]+)\)", GUIDE)
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for command in re.findall(r"`(make [\w =.]+|python -m [\w.]+|\.venv/bin/pytest tests\S*)", GUIDE):
        if "NAME" not in command:
            check_command(command)


def test_addresses_are_of_one_repository():
    named = ["CITATION.cff", "CHANGELOG.md", ".github/ISSUE_TEMPLATE/config.yml", "pyproject.toml"]
    for name in named:
        found = re.findall(r"https://github\.com/[\w-]+/[\w-]+", (ROOT / name).read_text(encoding="utf-8"))
        assert set(found) == {HOME}, name
