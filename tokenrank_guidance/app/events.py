"""What happens when something is clicked, typed or dragged; a mistake is one sentence and changes nothing."""

from __future__ import annotations

import base64
import functools
import html
import io
import json
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from tokenrank_guidance.app.answers import Answers, Updates
from tokenrank_guidance.app.examples import PICTURES, PROMPTS, example
from tokenrank_guidance.app.explorer import WORK, Explorer
from tokenrank_guidance.app.export import page_of
from tokenrank_guidance.app.layout import Parts
from tokenrank_guidance.app.picture import picture_of
from tokenrank_guidance.app.state import State, from_link
from tokenrank_guidance.app.watching import Cancelled, Watch
from tokenrank_guidance.files.pictures import open_picture
from tokenrank_guidance.messages import say
from tokenrank_guidance.program import explained

SECONDS = 12  # that a sentence stays
WHOLE = ("seed", "steps", "n", "num_anchors", "timestep")
Progress = gr.Progress
HOW_FAR = gr.Progress()  # Gradio finds the parameter by this default


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors are sentences on the page, which stays as it is."""

    @functools.wraps(handler)
    def careful(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Cancelled:
            gr.Info("Cancelled.", title="Stopped")
        except Exception as error:
            tell(error)
        return gr.skip()

    return careful


def tell(error: Exception) -> None:
    """Say what is wrong: in the library's own words, or for a fault of the program where to look."""
    line = explained(error)
    if line is None:
        say(f"a fault: {''.join(traceback.format_exception(error)[-3:])}")
        line = f"a fault in the program ({type(error).__name__}); the terminal says more"
    gr.Warning(html.escape(line), duration=SECONDS, title="This cannot be shown")


class Events:
    """The handlers. A page's state comes with every call; here is only what can be stopped, by session."""

    def __init__(self, explorer: Explorer, parts: Parts, start: State) -> None:
        self.explorer, self.start = explorer, start
        self.answers = Answers(parts)
        self.stops: dict[str, threading.Event] = {}

    def first(self) -> str:
        """What the page comes with, before it has asked anything; nothing where that takes work."""
        if self.start.view in WORK or not self.explorer.is_ready(self.start.source):
            return ""
        captured = self.explorer.captured(self.start.source)
        state = captured.fitting(self.start)
        with suppress(ValueError):  # `load` says it
            return self.answers.stage(state, self.explorer.scene(state), first=True)
        return ""

    def load(self, request: gr.Request, progress: Progress = HOW_FAR) -> Updates:
        """What the address says, or what there is to begin with where that cannot be shown."""
        asked = None
        try:
            asked = from_link(str(request.query_params))
            asked = self.start if asked == State() else asked
            updates = self.show(None, asked, "", request, progress)
        except Exception as error:
            tell(error)
            return gr.skip() if asked == self.start else self.begin(request, progress)
        if asked != self.start:
            return updates
        parts = self.answers.parts  # these came with the page, and something may be typed already
        came = [parts.model, parts.prompt, parts.seed, parts.steps, parts.cfg]
        return {part: update for part, update in updates.items() if part not in came}

    @told
    def begin(self, request: gr.Request, progress: Progress) -> Updates:
        return self.show(None, self.start, "", request, progress)

    def changed(self, name: str) -> Callable[..., Updates]:
        """The handler of a control that changes one field of the state."""

        def change(
            state: State, file: str, value: Any, request: gr.Request, progress: Progress = HOW_FAR
        ) -> Updates:
            return self.show(state, state.of(**{name: read(name, value)}), file, request, progress)

        change.__name__ = f"change_{name}"
        return told(change)

    @told
    def draw(
        self, state: State, model: str, prompt: str, seed: int, steps: int, cfg: str,
        request: gr.Request, progress: Progress = HOW_FAR,
    ) -> Updates:  # fmt: skip
        given = {"model": model, "prompt": prompt, "seed": seed, "steps": steps, "cfg": cfg, "picture": ""}
        new = state.of(**{name: read(name, value) for name, value in given.items()}, words="")
        return self.show(state, new, "", request, progress)

    @told
    def draw_example(
        self, state: State, model: str, prompt: str, seed: int, steps: int, cfg: str,
        chosen: gr.EventData, request: gr.Request, progress: Progress = HOW_FAR,
    ) -> Updates:  # fmt: skip
        return self.draw(state, model, PROMPTS[chosen.index], seed, steps, cfg, request, progress)

    @told
    def give(
        self, state: State, name: str, model: str, caption: str, timestep: int, file: str,
        request: gr.Request, progress: Progress = HOW_FAR,
    ) -> Updates:  # fmt: skip
        path = Path(file)
        try:
            digest = self.explorer.keep_picture(open_picture(path))
        except ValueError as error:  # the server's own path is nobody's business
            raise ValueError(str(error).replace(str(path), path.name)) from error
        new = state.of(model=model, caption=caption.strip(), timestep=int(timestep), picture=digest)
        return self.show(state, new, path.name, request, progress)

    @told
    def give_example(
        self, state: State, name: str, model: str, caption: str, timestep: int,
        chosen: gr.EventData, request: gr.Request, progress: Progress = HOW_FAR,
    ) -> Updates:  # fmt: skip
        path = str(example(PICTURES[chosen.index]))
        return self.give(state, name, model, caption, timestep, path, request, progress)

    @told
    def read(
        self, state: State, name: str, model: str, caption: str, timestep: int,
        request: gr.Request, progress: Progress = HOW_FAR,
    ) -> Updates:  # fmt: skip
        if state.source.drawn:
            raise ValueError("give a picture first: a file, or one of the examples")
        new = state.of(model=model, caption=caption.strip(), timestep=int(timestep))
        return self.show(state, new, name, request, progress)

    @told
    def choose_model(
        self, state: State, name: str, model: str, request: gr.Request, progress: Progress = HOW_FAR
    ) -> Updates:
        """The same picture or prompt, by another model."""
        return self.show(state, state.of(model=model), name, request, progress)

    @told
    def pick(self, state: State, name: str, event: gr.EventData, request: gr.Request) -> Updates:
        """A token, and the bounces that the page has turned to and may not have told yet."""
        n = state.n if event.n is None else int(event.n)
        return self.show(state, state.of(token=int(event.token), n=n), name, request)

    @told
    def brush(self, state: State, name: str, event: gr.EventData, request: gr.Request) -> Updates:
        return self.show(state, state.of(region=tuple(sorted(map(int, event.region)))), name, request)

    @told
    def choose(self, state: State, name: str, event: gr.EventData, request: gr.Request) -> Updates:
        """A head of the grid; the token that walks start at keeps its place."""
        new = state.of(view="walk", layer=str(event.layer), heads=str(int(event.head)), token=None)
        return self.show(state, new, name, request)

    @told
    def turn(self, state: State, name: str, event: gr.EventData) -> Updates:
        """The page shows the map already; link and code follow."""
        new = state.of(n=int(event.n))
        return self.answers.turned(self.explorer.captured(new.source), new, name)

    def cancel(self, request: gr.Request) -> None:
        stop = self.stops.get(str(request.session_hash))
        if stop is not None:
            stop.set()

    @told
    def save_png(self, state: State) -> str:
        data = io.BytesIO()
        picture_of(self.explorer.scene(state)).save(data, "PNG", optimize=True)
        return _file("tokenrank.png", "image/png", data.getvalue())

    @told
    def save_page(self, state: State) -> str:
        captured = self.explorer.captured(state.source)
        text = page_of(captured, state, self.explorer.scene(state))
        return _file("tokenrank.html", "text/html", text.encode())

    def show(
        self,
        before: State | None,
        state: State,
        name: str,
        request: gr.Request,
        progress: Progress | None = None,
    ) -> Updates:
        """What changes on the page from one state to the next; a page that shows nothing yet has none."""
        session, stop = str(request.session_hash), threading.Event()
        self.stops[session] = stop
        watch = Watch(stop=stop)
        if progress is not None:
            watch = Watch(lambda done, what: progress(done, desc=what), stop)
        try:
            captured = self.explorer.captured(state.source, watch)
            state = captured.fitting(state)
            scene = self.explorer.scene(state, watch)
        finally:
            if self.stops.get(session) is stop:
                del self.stops[session]
        return self.answers.shown(before, state, captured, scene, name)


def read(name: str, value: Any) -> Any:
    """A control's value as the state has it; ValueError for a text that is no number where one belongs."""
    if name == "cfg":
        try:
            return float(value) if str(value).strip() else None
        except ValueError:
            raise ValueError(f"cfg: got {value!r}, expected a number, or nothing") from None
    if name == "step":
        return int(value) - 1
    if name in WHOLE:
        return -1 if value is None else int(value)
    return tuple(value) if name == "arms" else value.strip() if isinstance(value, str) else value


def _file(name: str, kind: str, data: bytes) -> str:
    return json.dumps({"name": name, "type": kind, "data": base64.b64encode(data).decode()})
