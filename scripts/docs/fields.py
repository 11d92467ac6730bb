"""For the reference: the lines of a docstring that explain arguments or fields become a list."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

FIELDS = re.compile(r"^(?P<names>`?[a-z]\w*`?(?:, `?[a-z]\w*`?)*): (?=\S)")
AFTER = ("Raises ", "Source", "ValueError", "Returns ")  # begin what is said of the whole


class Fields(Extension):
    """Docstrings here say `name: what it is` in lines of their own, which Markdown would run together."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None and (obj.is_class or obj.is_function):
            obj.docstring.value = listed(obj.docstring.value, _parameters(obj))


def _parameters(obj: Object) -> set[str] | None:
    """Of a function; a class may have its fields from another one, which is not known yet."""
    return {one.name for one in getattr(obj, "parameters", ())} if obj.is_function else None


def listed(text: str, known: set[str] | None) -> str:
    """The text with a bullet for each line that begins with known names, or any; others go with it."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        found = FIELDS.match(line)
        names = [name.strip("` ") for name in found["names"].split(",")] if found else []
        if found and (known is None or known.issuperset(names)):
            lines += [""] * (not inside)
            lines.append(f"- {', '.join(f'`{name}`' for name in names)}: {line[found.end() :]}")
            inside = True
        elif inside and line.strip() and not line.startswith(AFTER):
            lines.append(f"  {line.strip()}")
        else:
            lines += [""] * inside
            lines.append(line)
            inside = False
    return "\n".join(lines)
