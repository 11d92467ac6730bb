"""Imports flow one way, and never in a circle; read off the source, whatever is imported when."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
CORE = "tokenrank_guidance"
MARKOV, APP, CLI = f"{CORE}.markov", f"{CORE}.app", f"{CORE}.cli"
# What each part may import besides itself; the deepest part that a module lies in counts.
ALLOWED = {
    MARKOV: {f"{CORE}.{name}" for name in ("checks", "errors", "memory")},
    CORE: {MARKOV},
    "sag": {CORE, MARKOV},
    "diffseg": {CORE, MARKOV},
    "eval": {CORE, MARKOV, "sag", "diffseg"},
    APP: {CORE, MARKOV, "sag", "diffseg"},
    CLI: {CORE, MARKOV, "sag", "diffseg", APP},
}
# The one import against the rule, and why.
EXCEPTIONS = {
    (f"{CORE}.__main__", CLI): "`python -m tokenrank_guidance` is the program",
}
PACKAGES = sorted({part.split(".")[0] for part in ALLOWED})


@cache
def modules() -> dict[str, Path]:
    """Every module's file by the module's name; a package's is its `__init__.py`."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {_name(path): path for path in files}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imported(name: str, later: bool) -> set[str]:
    """The modules of ours that a module imports; with `later`, in functions and by a name in a string too.

    Imports for type checkers count: what a module's annotations name it knows of.
    """
    return set(_imported(ast.parse(modules()[name].read_text(encoding="utf-8")), later)) - {name}


def _imported(node: ast.AST, later: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in modules())
        elif isinstance(child, ast.ImportFrom):
            assert child.module and not child.level, "an import is relative"
            inside = [f"{child.module}.{alias.name}" for alias in child.names]
            found = [name if name in modules() else child.module for name in inside]
            yield from (name for name in found if name in modules())
        elif later and isinstance(child, ast.Constant) and "." in str(child.value):
            yield from {str(child.value)} & modules().keys()
        if later or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imported(child, later)


def part(name: str) -> str:
    """The deepest of the parts that a module lies in."""
    return max((part for part in ALLOWED if f"{name}.".startswith(f"{part}.")), key=len)


def may_import(name: str, target: str) -> bool:
    mine, theirs = part(name), part(target)
    return mine == theirs or bool({target, theirs} & ALLOWED[mine])


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_flow_one_way(package):
    members = [name for name in modules() if part(name) == package]
    against = {
        (name, target)
        for name in members
        for target in imported(name, later=True)
        if not may_import(name, target)
    }
    assert members
    assert against == {pair for pair in EXCEPTIONS if part(pair[0]) == package}


@cache
def graph() -> nx.DiGraph:
    """Module → module that it imports at its top level, and the packages that this one lies in.

    Of these its own are left out: they are being imported already.
    """
    edges = [(name, target) for name in modules() for target in imported(name, later=False)]
    around = [(name, package) for name, target in edges for package in _around(target)]
    found = nx.DiGraph(edges)
    found.add_edges_from((name, package) for name, package in around if package not in {name, *_around(name)})
    return found


def _around(name: str) -> set[str]:
    """The packages that a module lies in."""
    parts = name.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts))}


def circles(found: nx.DiGraph) -> list[list[str]]:
    return [sorted(circle) for circle in nx.strongly_connected_components(found) if len(circle) > 1]


def test_no_circle_of_modules():
    assert circles(graph()) == []


@pytest.mark.parametrize("package", [name for name in modules() if modules()[name].name == "__init__.py"])
def test_no_circle_among_the_parts_of_a_package(package):
    """A part: a module, or a package with all that is in it."""
    depth = package.count(".") + 2
    inside = [edge for edge in graph().edges if all(name.startswith(f"{package}.") for name in edge)]
    parts = [tuple(".".join(name.split(".")[:depth]) for name in edge) for edge in inside]
    assert circles(nx.DiGraph([(one, other) for one, other in parts if one != other])) == []


def test_the_graph_sees_what_there_is():
    """A few imports of every kind, so that the tests above do not pass for want of seeing any."""
    assert CLI in imported(f"{CORE}.__main__", later=False)
    assert f"{CORE}.quiet" in imported(f"{CORE}.program", later=True) - imported(
        f"{CORE}.program", later=False
    )
    assert f"{CORE}.capture" in imported(CORE, later=False)
    assert f"{CORE}.markov.operator" in imported(MARKOV, later=False)
    assert "eval.masking" in imported("eval.masking.__main__", later=True)
    assert circles(nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")])) == [["a", "b", "c"]]
