"""The reference: a page for every public name, and one for each package that has it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "tokenrank_guidance": "What most programs need.",
    "tokenrank_guidance.markov": "Chains, their operators and solvers.",
    "tokenrank_guidance.capture": "Attention read off a running model.",
    "tokenrank_guidance.plots": "Figures of captured attention.",
    "tokenrank_guidance.videos": "TokenRank of videos.",
    "tokenrank_guidance.tiny": "The embedded models.",
    "tokenrank_guidance.experiments": "Where an installed package has its experiments.",
    "sag": "Guided sampling.",
    "diffseg": "Segmentation.",
    "diffseg.zero_shot": "Segmentation from words.",
    "eval.data": "Images of an experiment.",
    "eval.fidelity": "FID and its kin, with intervals.",
    "eval.generate": "Images of several arms from the same seeds.",
    "eval.masking": "Masking what a ranking calls influential.",
    "eval.segmentation": "Segmentation, measured.",
    "eval.sweep": "Settings chosen and reported.",
    "eval.zero_shot": "Segmentation from words, measured.",
    "eval.zero_shot.heads": "Heads and their λ2.",
}
INTRODUCTION = """
Every public function and class has a page. Packages of `eval` are imported as they stand in a checkout, and
after `tokenrank_guidance.experiments.make_importable()` where the package is installed.
""".strip()
OPTIONS = (
    "    options:\n      heading_level: 1\n      show_root_heading: true\n      show_root_full_path: false\n"
)


@dataclass(frozen=True)
class Public:
    """A public name, and the package that is the first to have it."""

    package: str
    name: str

    @property
    def dotted(self) -> str:
        return f"{self.package}.{self.name}"

    @property
    def page(self) -> str:
        """Below the folder of the reference."""
        return f"{self.package}/{self.name}.md"


@cache
def public() -> tuple[Public, ...]:
    """Every name once; what a package has of an earlier one in the list counts there."""
    seen: dict[str, Public] = {}
    for package in PACKAGES:
        for name in names_of(package):
            seen.setdefault(_home(package, name), Public(package, name))
    return tuple(seen.values())


@cache
def names_of(package: str) -> tuple[str, ...]:
    """`__all__` or, of a module without one, its own functions and classes that have no underscore."""
    tree = _tree(package)
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return tuple(name for name in ast.literal_eval(node.value) if not name.startswith("__"))
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return tuple(name for name in defined if not name.startswith("_"))


def pages() -> Iterator[tuple[str, str]]:
    """Paths below the folder of the reference, and texts of its pages."""
    yield "index.md", _index()
    for package, about in PACKAGES.items():
        yield f"{package}.md", _package(package, about)
    for one in public():
        yield one.page, _page(one)


def _index() -> str:
    lines = [f"| [`{package}`]({package}.md) | {about} |" for package, about in PACKAGES.items()]
    table = "\n".join(["| package | |", "| --- | --- |", *lines])
    return f"# Reference\n\n{INTRODUCTION}\n\n{table}\n"


def _page(one: Public) -> str:
    head = f"---\ntitle: {one.name}\n---\n\n[`{one.package}`](../{one.package}.md)"
    return f"{head} · `from {one.package} import {one.name}`\n\n::: {_home(one.package, one.name)}\n{OPTIONS}"


def _package(package: str, about: str) -> str:
    home = {(_home(one.package, one.name)): one for one in public()}
    lines = []
    for name in names_of(package):
        one = home[_home(package, name)]
        lines.append(f"| [`{name}`]({one.page}) | {_summary(one)} |")
    table = "\n".join(["| name | |", "| --- | --- |", *lines])
    return f"# `{package}`\n\n{about}\n\n{table}\n"


def _summary(one: Public) -> str:
    """The first line of its docstring."""
    module, _, name = _home(one.package, one.name).rpartition(".")
    for node in _tree(module).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and _assigns(node, name):
            return "A constant." if name.isupper() else "A type."
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            text = (ast.get_docstring(node) or "").split("\n\n")[0]
            return " ".join(text.replace("|", "\\|").split())
    return ""


def _assigns(node: ast.Assign | ast.AnnAssign, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(getattr(target, "id", "") == name for target in targets)


@cache
def _home(package: str, name: str) -> str:
    """Where a name is defined, through the imports of packages."""
    for node in ast.walk(_tree(package)):
        if isinstance(node, ast.ImportFrom) and any(name == (one.asname or one.name) for one in node.names):
            return _home(node.module or "", name)
    return f"{package}.{name}"


@cache
def _tree(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text())
