"""What the explorer shows: a plain value that a link holds, and that everything on the page follows from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sag.kinds import PAG_SCALE
from tokenrank_guidance.checks import is_damping, is_number, is_one_of, is_seed, is_whole

VIEWS = ("walk", "tokenrank", "heads", "segments", "words", "guidance")
DIRECTIONS = ("outgoing", "incoming")
HEADS = ("lambda2", "mean")
MOST_BOUNCES, MOST_STEPS, TIMESTEPS = 8, 1000, 1000
MOST_TOKENS, MOST_TEXT = 2**20, 2000


@dataclass(frozen=True)
class Source:
    """Which attention is read: of a picture that `model` draws, or of a given one.

    prompt, seed, steps, cfg: of drawing; a `cfg` of None is the model's own (embedded: 4).
    picture: the SHA-256 of a given picture, empty where one is drawn; caption, timestep: it is read under
    this text at this one of 1,000 training steps, without noise. A vision transformer reads pictures alone.

    Raises ValueError for numbers and texts that nothing can be read with.
    """

    model: str = "tiny-sd"
    prompt: str = "a photo of a church"
    seed: int = 0
    steps: int = 24
    cfg: float | None = None
    picture: str = ""
    caption: str = ""
    timestep: int = 300

    def __post_init__(self) -> None:
        _check(
            self,
            model=(_is_text(self.model) and self.model.strip() != "", "a model's name"),
            prompt=(_is_text(self.prompt), f"a text of at most {MOST_TEXT} letters"),
            seed=(is_seed(self.seed), "a whole number in [0, 2^63)"),
            steps=(
                is_whole(self.steps) and self.steps <= MOST_STEPS,
                f"a whole number from 1 to {MOST_STEPS}",
            ),
            cfg=(self.cfg is None or is_number(self.cfg), "a finite number, or none"),
            picture=(_is_digest(self.picture), "the SHA-256 of a picture, or nothing"),
            caption=(_is_text(self.caption), f"a text of at most {MOST_TEXT} letters"),
            timestep=(
                is_whole(self.timestep, 0) and self.timestep < TIMESTEPS,
                f"a whole number in [0, {TIMESTEPS})",
            ),
        )

    @property
    def drawn(self) -> bool:
        """Whether the model draws the picture."""
        return not self.picture


@dataclass(frozen=True)
class State:
    """What is on the screen: a view of a source's attention.

    view: one of `VIEWS`. step: of drawing, counted from 0; None is the middle one. layer: a name, or "auto".
    heads: "lambda2" or "mean" of all heads, or the number of one. token: where walks start, counted over all
    tokens of the map; n, direction: of bounces. damping, region: of TokenRank; the walk begins anew in the
    image tokens `region`, or anywhere. anchors, num_anchors, threshold: of segments; τ or "auto". words:
    "church, sky". arms: kinds of guidance beside none; scale, pag_scale: of those that blur, and of PAG.

    Raises ValueError for what cannot be shown.
    """

    source: Source = field(default_factory=Source)
    view: str = "walk"
    step: int | None = None
    layer: str = "auto"
    heads: str = "lambda2"
    token: int | None = None
    n: int = 2
    direction: str = "outgoing"
    damping: float = 0.99
    region: tuple[int, ...] = ()
    anchors: str = "tokenrank-grid"
    num_anchors: int = 64
    threshold: str = "auto"
    words: str = ""
    arms: tuple[str, ...] = ("sag", "tokenrank")
    scale: float = 0.75
    pag_scale: float = PAG_SCALE

    def __post_init__(self) -> None:
        tokens = all(is_whole(one, 0) and one < MOST_TOKENS for one in self.region)
        _check(
            self,
            view=(is_one_of(self.view, VIEWS), f"one of {', '.join(VIEWS)}"),
            step=(self.step is None or is_whole(self.step, 0), "a whole number ≥ 0"),
            layer=(_is_text(self.layer) and self.layer != "", "a layer's name, or auto"),
            heads=(_is_heads(self.heads), "lambda2, mean or the number of a head"),
            token=(self.token is None or is_whole(self.token, 0), "a whole number ≥ 0"),
            n=(is_whole(self.n) and self.n <= MOST_BOUNCES, f"a whole number from 1 to {MOST_BOUNCES}"),
            direction=(is_one_of(self.direction, DIRECTIONS), "outgoing or incoming"),
            damping=(is_damping(self.damping), "a number in (0, 1)"),
            region=(tokens and self.region == tuple(sorted(set(self.region))), "rising token numbers"),
            num_anchors=(is_whole(self.num_anchors), "a whole number ≥ 1"),
            threshold=(_is_threshold(self.threshold), "a number > 0, or auto"),
            words=(_is_text(self.words), f"a text of at most {MOST_TEXT} letters"),
            scale=(is_number(self.scale) and self.scale >= 0, "a number ≥ 0"),
            pag_scale=(is_number(self.pag_scale) and self.pag_scale >= 0, "a number ≥ 0"),
        )

    @property
    def head(self) -> int | None:
        """The one head that is looked at, None where all are mixed."""
        return int(self.heads) if self.heads.isdecimal() else None

    @property
    def concepts(self) -> list[str]:
        """The words, one by one."""
        return [word.strip() for word in self.words.split(",") if word.strip()]

    def of(self, **changes: Any) -> State:
        """With some fields changed, the source's too; what belongs to another model's tokens is forgotten."""
        names = {one.name for one in fields(Source)}
        source = replace(self.source, **{name: changes[name] for name in names & changes.keys()})
        rest = {name: value for name, value in changes.items() if name not in names}
        if source.model != self.source.model:
            rest = {"layer": "auto", "heads": "lambda2", "token": None, "region": ()} | rest
        if (source.steps, source.drawn) != (self.source.steps, self.source.drawn):
            rest = {"step": None} | rest
        return replace(self, source=source, **rest)


def to_link(state: State) -> str:
    """The state as a query string: what is not at its default, by name."""
    pairs = [*_changed(state.source, Source()), *_changed(state, State())]
    return urlencode([(name, _written(value)) for name, value in pairs])


def from_link(link: str) -> State:
    """The state of a query string, or of a whole address; ValueError for another one, saying why."""
    query = link.rpartition("?")[2].partition("#")[0]
    given = parse_qsl(query, keep_blank_values=True, max_num_fields=40)
    known = {one.name: str(one.type) for kind in (Source, State) for one in fields(kind)}
    values = {name: _read(name, text, known[name]) for name, text in given if name in known}
    values.pop("source", None)
    own = {one.name for one in fields(Source)}
    source = Source(**{name: value for name, value in values.items() if name in own})
    return State(source, **{name: value for name, value in values.items() if name not in own})


def unknown_in(link: str) -> list[str]:
    """Names in a link that no field has: a page lets them be, as Gradio has some of its own (`__theme`)."""
    known = {one.name for kind in (Source, State) for one in fields(kind)} - {"source"}
    query = link.rpartition("?")[2].partition("#")[0]
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True, max_num_fields=40)]
    return [name for name in names if name not in known and not name.startswith("__")]


def _changed(one: Any, default: Any) -> Iterable[tuple[str, Any]]:
    for each in fields(one):
        value = getattr(one, each.name)
        if each.name != "source" and value != getattr(default, each.name):
            yield each.name, value


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return _ranges(value) if value and isinstance(value[0], int) else ",".join(value)
    return repr(value) if isinstance(value, float) else "" if value is None else str(value)


def _ranges(numbers: tuple[int, ...]) -> str:
    """ "3-5.9" for 3, 4, 5 and 9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ".".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _read(name: str, text: str, kind: str) -> Any:
    try:
        if "None" in kind and not text:
            return None
        if kind.startswith("int"):
            return int(text)
        if kind.startswith("float"):
            return float(text)
        if kind.startswith("tuple[int"):
            return tuple(one for run in text.split(".") if run for one in _run(run))
        if kind.startswith("tuple"):
            return tuple(part for part in text.split(",") if part)
    except ValueError:
        raise ValueError(f"{name}: got {text[:80]!r}, expected a number as in a link of this page") from None
    return text


def _run(text: str) -> range:
    first, _, last = text.partition("-")
    end = int(last or first)
    if end >= MOST_TOKENS:
        raise ValueError
    return range(int(first), end + 1)


def _check(one: object, **rules: tuple[bool, str]) -> None:
    for name, (holds, expected) in rules.items():
        if not holds:
            raise ValueError(f"{name}: got {getattr(one, name)!r}, expected {expected}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MOST_TEXT


def _is_heads(value: object) -> bool:
    return isinstance(value, str) and (value in HEADS or (value.isascii() and value.isdecimal()))


def _is_digest(value: object) -> bool:
    return value == "" or (
        isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
    )


def _is_threshold(value: object) -> bool:
    try:
        return value == "auto" or (is_number(float(str(value))) and float(str(value)) > 0)
    except ValueError:
        return False
