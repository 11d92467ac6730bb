"""Results as one line, for whoever looks at them in a notebook."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

MOST = 8


def brief(result: Any) -> str:
    """`Name(field=…)` of a dataclass: tensors by their shapes, long tuples by their lengths."""
    shown = ((field.name, getattr(result, field.name)) for field in fields(result) if field.repr)
    return f"{type(result).__name__}({', '.join(f'{name}={_text(value)}' for name, value in shown)})"


def _text(value: Any) -> str:
    if hasattr(value, "shape"):
        return "×".join(map(str, value.shape))
    if isinstance(value, tuple | list) and len(value) > MOST:
        return f"<{len(value)} of them>"
    return repr(value)
