"""Packages that only some programs need: pyproject.toml's extras, and what says that one is not installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

PROJECT = "tokenrank-guidance"
# Each extra's modules, and the distributions that they come from.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "app": {"gradio": "gradio"},
    "eval": {
        "captum": "captum",
        "datasets": "datasets",
        "h5py": "h5py",
        "pyarrow": "pyarrow",
        "pydantic": "pydantic",
        "scipy": "scipy",
        "sklearn": "scikit-learn",
        "timm": "timm",
        "torch_fidelity": "torch-fidelity",
    },
}


def require(extra: str) -> None:
    """ImportError, with the command to install them, where packages of an extra are missing.

    Nothing is imported; a name that is no extra needs nothing.
    """
    missing = [name for module, name in EXTRAS.get(extra, {}).items() if find_spec(module) is None]
    if missing:
        raise _without(missing, extra)


def explained(error: ModuleNotFoundError) -> str:
    """What to tell a user of a missing module: the command that installs it, where an extra has it."""
    name = error.name or ""
    found = [(extra, names[name]) for extra, names in EXTRAS.items() if name in names]
    return str(_without([found[0][1]], found[0][0]) if found else error)


def _without(missing: Sequence[str], extra: str) -> ImportError:
    return ImportError(
        f"this needs {', '.join(missing)}, not installed here: pip install '{PROJECT}[{extra}]'"
    )
