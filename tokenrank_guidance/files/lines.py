"""Text files of one item a line: prompts, names, numbers of pictures."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from tokenrank_guidance.files.reading import read_file

LINE_END = re.compile(r"\r\n|\n|\r")  # not the other twelve of `str.splitlines`, which captions may hold
WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: Path) -> list[str]:
    """Every line of a UTF-8 file, blank ones too, so that item n is line n; the last may end or not.

    A byte-order mark at the start is dropped. Raises ValueError that names the file, and the line where there
    is one, for another encoding, and for what cannot be read.
    """
    try:
        data = read_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path} cannot be read: {reason}") from error
    lines = LINE_END.split(_decoded(data, path))
    return lines if lines[-1] else lines[:-1]


def _decoded(data: bytes, path: Path) -> str:
    if data.startswith(WIDE) or b"\0" in data:
        raise ValueError(f"{path} is not UTF-8 but looks like UTF-16 or 32; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The position counts from behind the mark.
        start = error.start + len(codecs.BOM_UTF8) * data.startswith(codecs.BOM_UTF8)
        line = len(LINE_END.findall(data[:start].decode("latin-1"))) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
