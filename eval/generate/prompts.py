"""What the images are of: prompts, and the class that each one names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.generate.choices import CLASSES, EMPTY
from tokenrank_guidance.calls import Job
from tokenrank_guidance.files.digest import joint_digest
from tokenrank_guidance.files.lines import read_lines
from tokenrank_guidance.messages import say
from tokenrank_guidance.tiny.tokenizer import LABELS, TEMPLATES


@dataclass(frozen=True)
class Prompts:
    """Image i is of prompt i mod their number, from the seed first + i; its label is None if it has none."""

    texts: tuple[str | None, ...]
    labels: tuple[str | None, ...]

    def jobs(self, indices: range, seed: int) -> list[Job]:
        return [Job(self.texts[i % len(self.texts)], seed + i) for i in indices]

    @property
    def digest(self) -> str:
        return joint_digest(zip(self.texts, self.labels, strict=True))

    def to_json(self) -> dict[str, object]:
        return {"prompts": list(self.texts), "labels": list(self.labels), "digest": self.digest}


def read_prompts(source: str | None, pipe: Any, embedded: bool) -> Prompts:
    """Prompts for `pipe`: a file, "classes", or "empty", the empty text; None is "classes" where it can be.

    "classes" are an embedded model's captions, or a class-conditional model's classes. A file has one prompt
    a line, and after a tab, where there is one, the name of its class; a blank line is the empty prompt, so
    that prompt n is line n. Raises ValueError for a file without prompts or with labels on some lines only,
    and where the pipeline has no classes to name.
    """
    if source == EMPTY:
        return Prompts(("",), (None,))
    if source in (CLASSES, None):
        return _classes(pipe, embedded, asked=source is not None)
    return _from_file(Path(str(source)))


def _classes(pipe: Any, embedded: bool, asked: bool) -> Prompts:
    if embedded:
        return Prompts(tuple(TEMPLATES[0].format(label=label) for label in LABELS), LABELS)
    count = getattr(getattr(getattr(pipe, "transformer", None), "config", None), "num_embeds_ada_norm", None)
    if type(pipe).__name__ == "DiTPipeline" and count:
        spelt = {index: name for name, index in (getattr(pipe, "labels", None) or {}).items()}
        numbers = tuple(str(i) for i in range(count))
        return Prompts(numbers, tuple(spelt.get(i) for i in range(count)))
    if getattr(pipe, "text_encoder", None) is None and not asked:
        return Prompts((None,), (None,))
    raise ValueError(
        f"{type(pipe).__name__} has no classes of its own; give --prompts FILE, one prompt a line, or "
        f"--prompts {EMPTY} for unconditional images"
    )


def _from_file(path: Path) -> Prompts:
    try:
        lines = read_lines(path)
    except ValueError as error:
        raise ValueError(f"--prompts: {error}; expected a text file, {CLASSES} or {EMPTY}") from error
    pairs = [line.partition("\t")[::2] for line in lines]
    texts = tuple(text.strip() for text, _ in pairs)
    labels = tuple(label.strip() or None for _, label in pairs)
    if not any(texts) and not any(labels):
        raise ValueError(f"{path} has no prompts; for images of the empty text use --prompts {EMPTY}")
    if len({label is None for label in labels}) > 1:
        line = labels.index(None) + 1
        raise ValueError(
            f"{path} names a class after a tab on some lines only, not on line {line}; do so on all or none"
        )
    if "" in texts:
        count, line = texts.count(""), texts.index("") + 1
        say(f"{path}: {count} of {len(texts)} prompts are empty, the first on line {line}")
    return Prompts(texts, labels)
