"""The notebooks of `examples/`, made of the scripts beside them, which are their source.

`python -m tests.examples.notebooks` writes them: each begins with a badge that opens it in Colab, and with a
cell that installs the package there.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({url})"
IN_COLAB = """\
import os
import sys

if "google.colab" in sys.modules:  # elsewhere: pip install tokenrank-guidance
    get_ipython().system("git clone -q --depth 1 {home} && pip install -q ./{name}")
    os.chdir("{name}/examples")"""
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def notebook(script: Path) -> NotebookNode:
    """A script's notebook, without outputs."""
    made = jupytext.read(script, fmt="py:percent")
    made.metadata = nbformat.from_dict(KERNEL)
    title, *rest = made.cells
    title.source += f"\n\n{BADGE.format(url=colab(script))}"
    cell = new_code_cell(IN_COLAB.format(home=HOME, name=HOME.rsplit("/", 1)[-1]))
    made.cells = [title, cell, *rest]
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"
    nbformat.validate(made)
    return made


def written(script: Path) -> str:
    """The notebook's file."""
    return nbformat.writes(notebook(script)) + "\n"


def colab(script: Path) -> str:
    """Where Colab opens a script's notebook."""
    repository = HOME.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{repository}/blob/main/examples/{script.stem}.ipynb"


if __name__ == "__main__":
    for script in SCRIPTS:
        script.with_suffix(".ipynb").write_text(written(script), encoding="utf-8")
