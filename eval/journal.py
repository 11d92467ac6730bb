"""A record of finished items, so that interrupted work goes on where it stopped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from eval.schema import Schema, validated
from tokenrank_guidance.files.reading import parse_json
from tokenrank_guidance.report import Json, plain

Check = Callable[[str, Json], object]


class _Header(Schema):
    config: Json


class _Entry(Schema):
    key: str
    record: Json


Line = TypeVar("Line", _Header, _Entry)


class Journal:
    """Finished items in a file of JSON lines: first the configuration, then `{"key", "record"}` of each.

    `with Journal(path, config) as journal:` holds what an earlier run with the same configuration finished
    in `journal.done`; `journal.add(key, record)` appends, and what it wrote survives the process being
    killed. A last line that was torn by that is dropped.

    Raises ValueError for a file of another configuration, naming what differs, and for one that is damaged
    elsewhere, where a record is for which `check(key, record)` raises ValueError; OSError while another
    process has it open.
    """

    def __init__(self, path: Path, config: Mapping[str, object], check: Check | None = None) -> None:
        self.path, self.config, self._check = path, _round_trip(config), check
        self.done: dict[str, Json] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no regular file; remove it or choose another folder")
        self._file = path.open("a+b", buffering=0)
        try:
            self._lock()
            self._resume()
        except BaseException:
            self._file.close()
            raise

    def add(self, key: str, record: Mapping[str, object]) -> None:
        """Append a finished item; raises ValueError if it was finished before, OSError on a full disk."""
        if key in self.done:
            raise ValueError(f"{key!r} is already in {self.path}")
        entry = _round_trip({"key": key, "record": record})
        self._append(entry)
        self.done[key] = entry["record"]

    def close(self) -> None:
        """Let other processes open the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(
                f"{self.path} is in use by another process; wait for it or choose another folder"
            ) from error

    def _resume(self) -> None:
        lines = self._whole_lines()
        if not lines:
            self._append({"config": self.config})
            return
        check_settings(self.path, self._parsed(1, lines[0], _Header).config, self.config)
        for number, line in enumerate(lines[1:], 2):
            entry = self._parsed(number, line, _Entry)
            self.done[entry.key] = entry.record

    def _whole_lines(self) -> list[bytes]:
        """The file's lines; what follows the last line end is cut off, in the file too."""
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._file.truncate(len(whole))
        return whole.split(b"\n")[:-1]

    def _parsed(self, number: int, line: bytes, kind: type[Line]) -> Line:
        try:
            entry: Line = validated(kind, parse_json(line, "it"))
            if self._check is not None and isinstance(entry, _Entry):
                self._check(entry.key, entry.record)
        except ValueError as error:
            raise ValueError(
                f"line {number} of {self.path} is damaged: {error}; remove the file to start anew"
            ) from error
        return entry  # pyright: ignore[reportReturnType]  narrowed above

    def _append(self, entry: Json) -> None:
        """Write one line; where that fails half-way, as on a full disk, the file is as it was before."""
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
        except OSError as error:
            self._file.truncate(end)
            raise OSError(f"cannot write {self.path}: {error.strerror or error}") from error
        except BaseException:
            self._file.truncate(end)
            raise


@dataclass(frozen=True)
class Journals:
    """One journal for each process in `folder`, `name`-0.jsonl and so on, all of one `config`."""

    folder: Path
    name: str
    config: Mapping[str, object]
    check: Check

    def of(self, process: int) -> Journal:
        """That of one process, open."""
        return Journal(self.folder / f"{self.name}-{process}.jsonl", self.config, self.check)

    def records(self) -> dict[int, Json]:
        """What all processes of this and of earlier runs have finished, by number.

        Not while another process has one of them open. Raises ValueError and OSError as `Journal` does.
        """
        done: dict[int, Json] = {}
        for path in sorted(self.folder.glob(f"{self.name}-*.jsonl")):
            with Journal(path, self.config, self.check) as journal:
                done |= {int(key): record for key, record in journal.done.items()}
        return done


def check_settings(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError, naming what differs, where `path` has results of other settings than `now`'s."""
    now = _round_trip(now)
    differing = list(_differences(before, now))
    if differing:
        raise ValueError(
            f"{path} has results of other settings ({'; '.join(differing)}); "
            "use the same ones, choose another folder, or remove the file to start anew"
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{within}{key}.")
        elif old != new:
            yield f"{within}{key} was {old!r}, is {new!r}"


def _round_trip(value: Mapping[str, object]) -> Json:
    """What a reader of the file will get, so that a resumed run sees the same as the first."""
    return json.loads(json.dumps(plain(value)))
