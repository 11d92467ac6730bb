"""docs/troubleshooting.md: every error text by topic, with what to do."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from scripts.docs.errors import Message, messages

TOPICS = Path(__file__).parent / "topics.toml"
INTRODUCTION = """
# Troubleshooting

*Written by `python -m scripts.docs`: the texts are read off the code, so that none is missing; `…` stands for
what a text quotes.*

An error says what was got, what was expected, and what to do where that is known. `ValueError`: an argument.
`UnsupportedError` (a `ValueError`): arguments that are valid one by one make a combination that is refused.
`CaptureError`: attention could not be seen. `ConvergenceError`: an iteration used up its steps. All three are
`TokenRankError`s. A command prints one line and exits with 2. Search this page for the words of yours.
"""


@dataclass(frozen=True)
class Topic:
    """What to do about the errors of some modules."""

    title: str
    modules: tuple[str, ...]
    advice: str

    def has(self, module: str) -> bool:
        return any(fnmatch(module, pattern) for pattern in self.modules)


def topics() -> list[Topic]:
    """As written down, in order."""
    listed = tomllib.loads(TOPICS.read_text())["topic"]
    return [Topic(one["title"], tuple(one["modules"]), one["advice"].strip()) for one in listed]


def by_topic(found: Sequence[Message], listed: Sequence[Topic]) -> dict[str, list[Message]]:
    """Each text under the first topic that has its module; ValueError for a module that is in none."""
    sorted_in: dict[str, list[Message]] = {topic.title: [] for topic in listed}
    for message in found:
        topic = next((topic for topic in listed if topic.has(message.module)), None)
        if topic is None:
            raise ValueError(
                f"{TOPICS.name} has no topic for {message.module}, which raises {message.text!r}"
            )
        sorted_in[topic.title].append(message)
    return sorted_in


def page() -> str:
    """The page."""
    listed = topics()
    sorted_in = by_topic(messages(), listed)
    parts = [INTRODUCTION.strip()]
    for topic in listed:
        texts = sorted(dict.fromkeys(message.text for message in sorted_in[topic.title]))
        lines = "\n".join(f"- {code(text)}" for text in texts)
        count = f"{len(texts)} texts" if len(texts) > 1 else "1 text"
        fold = f"<details markdown>\n<summary>{count}</summary>\n\n{lines}\n\n</details>"
        parts += [f"## {topic.title}", topic.advice, fold]
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """In Markdown, though it may have backticks of its own."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
