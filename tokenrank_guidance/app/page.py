"""The page: its parts, and which event of which part does what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from tokenrank_guidance.app.events import Events
from tokenrank_guidance.app.explorer import Explorer
from tokenrank_guidance.app.layout import Parts, lay_out
from tokenrank_guidance.app.state import State
from tokenrank_guidance.app.theme import DOWNLOAD

READ = ("model", "caption", "timestep")
DREW = ("model", "prompt", "seed", "steps", "cfg")
KEPT = (3600, 3600)  # seconds between looks for old files, and how old these are


def build_page(explorer: Explorer, start: State | None = None) -> gr.Blocks:
    """The whole page; `start` is what an address without a link shows."""
    with gr.Blocks(
        title="TokenRank explorer", analytics_enabled=False, fill_width=True, delete_cache=KEPT
    ) as blocks:
        start = start or State()
        parts = lay_out(explorer.settings, start)
        events = Events(explorer, parts, start)
        parts.stage.value = events.first()
        _connect(blocks, parts, events)
    return blocks


def _connect(blocks: gr.Blocks, parts: Parts, events: Events) -> None:
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    long: dict[str, Any] = {
        "concurrency_limit": None,
        "show_progress_on": [parts.stage],
        "api_visibility": "private",
    }
    blocks.load(events.load, None, parts.outputs, **long)
    kept = [parts.state, parts.name]
    for name, event, how in (
        *((name, "input", long) for name in ("view", "anchors", "arms")),
        *((name, "input", quick) for name in ("layer", "heads", "direction")),
        *((name, "release", quick) for name in ("step", "damping")),
        *((name, "release", long) for name in ("n", "scale", "pag_scale")),
        *((name, "submit", long) for name in ("threshold", "words", "num_anchors")),
    ):
        part = getattr(parts, name)
        getattr(part, event)(events.changed(name), [*kept, part], parts.outputs, **how)
    _connect_sources(parts, events, long)
    parts.cancel.click(events.cancel, None, None, **quick)
    for name in ("pick", "brush", "choose", "turn"):
        getattr(parts.stage, name)(getattr(events, name), kept, parts.outputs, **quick)
    for button, save in ((parts.png, events.save_png), (parts.page, events.save_page)):
        saved = button.click(save, [parts.state], [parts.saved], **quick)
        saved.then(None, [parts.saved], None, js=DOWNLOAD)


def _connect_sources(parts: Parts, events: Events, how: dict[str, Any]) -> None:
    drew = [parts.state, *(getattr(parts, name) for name in DREW)]
    read = [parts.state, parts.name, *(getattr(parts, name) for name in READ)]
    clicks: list[tuple[Callable[..., Any], Callable[..., Any], list[Any]]] = [
        (parts.draw.click, events.draw, drew),
        (parts.prompt.submit, events.draw, drew),
        (parts.prompts.choose, events.draw_example, drew),
        (parts.file.upload, events.give, [*read, parts.file]),
        (parts.pictures.choose, events.give_example, read),
        (parts.read.click, events.read, read),
        (parts.model.input, events.choose_model, [*read[:2], parts.model]),
    ]
    for event, handler, inputs in clicks:
        event(handler, inputs, parts.outputs, **how)
