"""What is on the screen as a command, which comes to the same numbers."""

from __future__ import annotations

import shlex

from sag.kinds import NONE, PAG
from tokenrank_guidance.app.code import PICTURE
from tokenrank_guidance.app.passes import Captured
from tokenrank_guidance.app.segments import segment_changes, word_options
from tokenrank_guidance.app.state import Source, State, to_link


def command_of(captured: Captured, state: State, name: str = PICTURE) -> str:
    """The same as commands of `tokenrank`; a walk's and the like is this page's own, without the page."""
    opened = captured.opened
    if opened.model is not None and state.view == "segments":
        return _segment_command(captured, state, name)
    if opened.model is not None and state.view == "words":
        return _explain_command(captured, state, name)
    if state.view == "guidance":
        return "\n".join(
            _sample(captured, arm, f"{arm}.png", _scale(arm, state)) for arm in (NONE, *state.arms)
        )
    image = [] if captured.source.drawn else ["--image", name]
    link = ["--link", to_link(state)]
    return shlex.join(["tokenrank", "app", *image, *link, *_device(captured), "--export", "shown"])


def _sample(captured: Captured, arm: str, out: str, more: list[str]) -> str:
    asked = [*_model(captured), *_sampling(captured.source), "--guidance", arm, *more, "--out", out]
    return shlex.join(["tokenrank", "sample", *asked])


def _sampling(source: Source) -> list[str]:
    cfg = [] if source.cfg is None else ["--cfg", f"{source.cfg!r}"]
    numbers = ["--seed", str(source.seed), "--steps", str(source.steps)]
    return [*_option("--prompt", source.prompt), *numbers, *cfg]


def _scale(arm: str, state: State) -> list[str]:
    return [] if arm == NONE else ["--scale", repr(state.pag_scale if arm == PAG else state.scale)]


def _segment_command(captured: Captured, state: State, name: str) -> str:
    first = _sample(captured, "none", PICTURE, []) + "\n" if captured.source.drawn else ""
    changes = segment_changes(captured, state)
    changes.pop("resolution", None)
    options = [part for key, value in changes.items() for part in ("--" + key.replace("_", "-"), f"{value}")]
    file = PICTURE if captured.source.drawn else name
    return first + shlex.join(
        ["tokenrank", "segment", file, *_model(captured), *options, "--out", "segments"]
    )


def _explain_command(captured: Captured, state: State, name: str) -> str:
    source, options = captured.source, word_options(captured, state)
    target = _sampling(source) if source.drawn else [name, *_option("--caption", source.caption)]
    asked = ["--mask-bounces", str(options.n)]
    weights = ["--head-weights", options.head_weights]
    words = _option("--concepts", ", ".join(state.concepts))
    return shlex.join(["tokenrank", "explain", *target, *words, *_model(captured), *asked, *weights])


def _option(name: str, text: str) -> list[str]:
    """A text that begins like an option is no other option."""
    return [] if not text else [f"{name}={text}"] if text.startswith("-") else [name, text]


def _model(captured: Captured) -> list[str]:
    return ["--model", captured.opened.name, *_device(captured)]


def _device(captured: Captured) -> list[str]:
    parameter = next(captured.opened.network.parameters())
    dtype = str(parameter.dtype).removeprefix("torch.")
    device = [] if parameter.device.type == "cpu" else ["--device", str(parameter.device)]
    return [*device, *([] if dtype == "float32" else ["--dtype", dtype])]
