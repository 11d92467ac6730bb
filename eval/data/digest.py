"""Content hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from tokenrank_guidance.files.reading import open_regular

BLOCK = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def joint_digest(parts: Iterable[object]) -> str:
    """SHA-256 of the parts' text, in hexadecimal; the order counts."""
    return hashlib.sha256("\n".join(repr(part) for part in parts).encode()).hexdigest()
