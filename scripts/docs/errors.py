"""Every error text of the packages, read off their source; nothing is imported.

What a text quotes stands as `…`. Where a loop checks several settings by one text, each is a text of its own,
and a reason for refusing a model, which another text quotes, is one too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("tokenrank_guidance", "sag", "diffseg", "eval")
REASONS = ("tokenrank_guidance/families/*.py", "sag/refused_schedulers.py")
QUOTED = "…"
FEWEST_WORDS = 2  # of a text's own; what has fewer only quotes another text
FEWEST_OF_A_REASON = 3
Texts = Mapping[str, str]


@dataclass(frozen=True, order=True)
class Message:
    """One text, and the module that raises it, by its path in the repository."""

    module: str
    text: str


@cache
def messages() -> tuple[Message, ...]:
    """All texts, in the order of modules and lines, each once."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    found = [Message(path.relative_to(ROOT).as_posix(), text) for path in files for text in _texts_of(path)]
    return tuple(dict.fromkeys(found))


def _texts_of(path: Path) -> Iterator[str]:
    module = path.relative_to(ROOT).as_posix()
    tree, names = _tree(path), _constants(path)
    texts = [text for text in _raised(tree, names) if _words(text) >= FEWEST_WORDS]
    if any(fnmatch(module, pattern) for pattern in REASONS):
        texts += [text for text in _reasons(tree, names) if _words(text) >= FEWEST_OF_A_REASON]
    yield from (" ".join(text.replace(2 * QUOTED, QUOTED).split()) for text in texts)


def _words(text: str) -> int:
    return sum(bool(word.strip(f"{QUOTED}:,.;()'")) for word in text.split())


def _raised(node: ast.AST, names: Texts) -> Iterator[str]:
    """Of what is made as an error, or handed to a function that refuses."""
    if isinstance(node, ast.For):
        for row in _rows(node, names):
            for part in node.body:
                yield from _raised(part, row)
        return
    if isinstance(node, ast.Call) and node.args and _is_error(node.func):
        yield _text(node.args[0], names)
    for part in ast.iter_child_nodes(node):
        yield from _raised(part, names)


def _is_error(called: ast.expr) -> bool:
    name = getattr(called, "id", getattr(called, "attr", ""))
    return name.endswith("Error") or name == "_refuse"


def _rows(loop: ast.For, names: Texts) -> list[Texts]:
    """The texts of a loop's variables: by row where it goes through rows that are written down."""
    if not isinstance(loop.target, ast.Tuple) or not isinstance(loop.iter, ast.Tuple):
        return [names]
    variables = [getattr(one, "id", "") for one in loop.target.elts]
    rows = [row.elts for row in loop.iter.elts if isinstance(row, ast.Tuple)]
    return [
        {**names, **{name: _text(value, names) for name, value in zip(variables, row, strict=False)}}
        for row in rows
    ] or [names]


def _reasons(tree: ast.Module, names: Texts) -> Iterator[str]:
    """Long texts that a module names, or that a function of texts returns."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            parts = node.value.values if isinstance(node.value, ast.Dict) else [node.value]
            yield from (
                _text(part, names) for part in parts if isinstance(part, ast.Constant | ast.JoinedStr)
            )
        if isinstance(node, ast.FunctionDef) and getattr(node.returns, "id", "") == "str":
            returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value]
            for value in returned:
                choices = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
                yield from (_text(one, names) for one in choices)


def _text(value: ast.expr, names: Texts) -> str:
    match value:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(parts):
            return "".join(_text(part, names) for part in parts)
        case ast.FormattedValue(inner):
            return _text(inner, names)
        case ast.BinOp(left, ast.Add(), right):
            return _text(left, names) + _text(right, names)
        case ast.Name(name):
            return names.get(name, QUOTED)
    return QUOTED


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _constants(path: Path) -> Texts:
    """The texts that a module names, those of others that it imports among them."""
    found: dict[str, str] = {}
    for node in _tree(path).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            source = ROOT / f"{(node.module or '').replace('.', '/')}.py"
            own = _constants(source) if source.is_file() else {}
            found |= {one.asname or one.name: own[one.name] for one in node.names if one.name in own}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            found |= {one.id: _text(node.value, found) for one in node.targets if isinstance(one, ast.Name)}
    return {name: text for name, text in found.items() if text != QUOTED}
