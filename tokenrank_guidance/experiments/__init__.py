"""Where the experiments are: in a checkout the folder `eval`, in an installed package a folder in here.

An installed package puts no `eval` into the environment: a module of that name would hide a folder `eval/` of
anybody's that has no `__init__.py`. `make_importable` finds it for the running process alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

NAME = "eval"
HERE = Path(__file__).parent


def folder() -> Path:
    """The folder of the package `eval`; ImportError where it was left out of the installation."""
    for parent in (HERE, HERE.parents[1]):
        if (parent / NAME / "arguments.py").is_file():
            return parent / NAME
    raise ImportError(f"the experiments are not installed: expected the folder {HERE / NAME}")


def make_importable() -> None:
    """From here on `from eval.masking import …` finds this project's experiments, in this process.

    Raises ImportError where another package `eval` has been imported before.
    """
    wanted, loaded = folder(), sys.modules.get(NAME)
    if loaded is not None:
        found = [Path(path).resolve() for path in loaded.__path__]
        if found != [wanted.resolve()]:
            raise ImportError(f"another package {NAME} is imported already, from {loaded.__path__[0]}")
    elif sys.path[:1] != [str(wanted.parent)]:
        sys.path.insert(0, str(wanted.parent))
