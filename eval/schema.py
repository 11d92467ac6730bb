"""What files of our own must look like: read back only as they were written."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
SHOWN = 60  # characters of a wrong value


class Schema(BaseModel):
    """Fields of the types that they are annotated with, none converted; what else a file holds is let be."""

    model_config = ConfigDict(strict=True, frozen=True)


class Record(Schema):
    """What an experiment keeps of an image."""

    def check(self, expected: Any) -> None:
        """ValueError for numbers that are not those of what is expected, such as all arms."""


class OfArms(Record):
    """What it keeps of each arm."""

    arms: dict[str, Any]

    def check(self, expected: Iterable[str]) -> None:
        """ValueError where one of the arms is lacking."""
        lacking = [arm for arm in expected if arm not in self.arms]
        if lacking:
            raise ValueError(f"arms: it lacks {', '.join(lacking)}")


class Unreadable(Schema):
    """An image that could not be read, and why."""

    unreadable: str


_adapter = lru_cache(TypeAdapter)  # making one takes longer than using it


def validated(kind: Any, value: Any) -> Any:
    """`value` as that schema, or union of schemas; ValueError of one line that says where it differs."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[-1]  # of a union, what differs from its last member
        where = ".".join(str(part) for part in first["loc"] if not isinstance(part, str) or part.islower())
        got = repr(first["input"])
        got = got if len(got) <= SHOWN else f"{got[:SHOWN]}…"
        raise ValueError(f"{where or 'it'}: {first['msg'].lower()}, got {got}") from error


def check_index(key: str) -> None:
    """ValueError for a key that is no image's number."""
    if not (key.isascii() and key.isdecimal() and len(key) < 16):
        raise ValueError(f"key is {key[:SHOWN]!r}, expected an image's number")
