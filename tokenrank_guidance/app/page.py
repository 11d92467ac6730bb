"""The page: what happens when something is clicked, typed or dragged."""

from __future__ import annotations

import base64
import io
import json
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from tokenrank_guidance.app.chains import grid_of
from tokenrank_guidance.app.code import command_of, python_of
from tokenrank_guidance.app.explorer import Explorer
from tokenrank_guidance.app.export import page_of
from tokenrank_guidance.app.layout import PICTURES, Parts, example, lay_out
from tokenrank_guidance.app.passes import Captured
from tokenrank_guidance.app.picture import picture_of
from tokenrank_guidance.app.scene import Scene
from tokenrank_guidance.app.state import State, from_link, to_link
from tokenrank_guidance.app.theme import DOWNLOAD
from tokenrank_guidance.app.watching import Cancelled, Watch
from tokenrank_guidance.files.pictures import open_picture
from tokenrank_guidance.messages import say
from tokenrank_guidance.program import explained

Updates = dict[Any, Any]
READ = ("model", "caption", "timestep")
DREW = ("model", "prompt", "seed", "steps", "cfg")
LIVE = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
LONG = {"concurrency_limit": None, "api_visibility": "private"}


def build_page(explorer: Explorer, start: State | None = None) -> gr.Blocks:
    """The whole page; `start` is what an address without a link shows."""
    with gr.Blocks(title="TokenRank explorer", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        parts = lay_out(explorer.settings)
        _Events(explorer, parts, start or State()).connect(blocks)
    return blocks


class _Events:
    """The handlers. A page's state comes with every call; here is only what can be stopped, by session."""

    def __init__(self, explorer: Explorer, parts: Parts, start: State) -> None:
        self.explorer, self.parts, self.start = explorer, parts, start
        self.stops: dict[str, threading.Event] = {}

    def connect(self, blocks: gr.Blocks) -> None:
        parts = self.parts
        blocks.load(self.load, None, parts.outputs, **LONG)
        self._on(parts.view.input, "view", LONG)
        self._connect_source()
        for name in ("layer", "heads", "direction"):
            self._on(getattr(parts, name).input, name, LIVE)
        for name in ("step", "damping", "n"):
            self._on(getattr(parts, name).release, name, LONG if name == "n" else LIVE)
        for name in ("anchors", "arms"):
            self._on(getattr(parts, name).input, name, LONG)
        for name in ("threshold", "words", "num_anchors"):
            self._on(getattr(parts, name).submit, name, LONG)
        self._on(parts.scale.release, "scale", LONG)
        self._connect_stage()
        for button, save in ((parts.png, self.save_png), (parts.page, self.save_page)):
            saved = button.click(save, [parts.state], [parts.saved], **LIVE)
            saved.then(None, [parts.saved], None, js=DOWNLOAD)

    def _connect_source(self) -> None:
        parts = self.parts
        drew = [parts.state, *(getattr(parts, name) for name in DREW)]
        for event in (parts.draw.click, parts.prompt.submit):
            event(self.draw, drew, parts.outputs, **LONG)
        parts.prompts.click(self.draw_example, [*drew, parts.prompts], parts.outputs, **LONG)
        read = [parts.state, parts.name, *(getattr(parts, name) for name in READ)]
        parts.file.upload(self.give, [*read, parts.file], parts.outputs, **LONG)
        parts.pictures.click(self.give_example, [*read, parts.pictures], parts.outputs, **LONG)
        parts.read.click(self.read, read, parts.outputs, **LONG)
        parts.model.input(self.choose_model, [parts.state, parts.model], parts.outputs, **LONG)
        parts.cancel.click(self.cancel, None, None, **LIVE)

    def _connect_stage(self) -> None:
        parts = self.parts
        quick = [parts.state, parts.name]
        parts.stage.pick(self.pick, quick, parts.outputs, **LIVE)
        parts.stage.brush(self.brush, quick, parts.outputs, **LIVE)
        parts.stage.choose(self.choose, quick, parts.outputs, **LIVE)
        parts.stage.turn(self.turn, quick, parts.outputs, **LIVE)

    def _on(self, event: Callable[..., Any], name: str, how: dict[str, Any]) -> None:
        """A control that changes one field of the state."""

        def changed(
            state: State,
            file: str,
            value: Any,
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio finds it by this default
        ) -> Updates:
            return self.show(state, {name: _read(name, value)}, file, request, progress)

        changed.__name__ = f"change_{name}"
        event(
            changed,
            [self.parts.state, self.parts.name, getattr(self.parts, name)],
            self.parts.outputs,
            **how,
        )

    # Each of these is an event; Gradio gives the request, and the progress by its default.

    def load(self, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Updates:  # noqa: B008
        """What the address says."""
        query = str(request.query_params)
        try:
            asked = from_link(query) if query.replace("__theme=dark", "") else self.start
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return self.show(self.start, asked, "", request, progress, fresh=True)

    def draw(
        self, state: State, model: str, prompt: str, seed: int, steps: int, cfg: str,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:  # fmt: skip
        given = {"model": model, "prompt": prompt, "seed": seed, "steps": steps, "cfg": cfg}
        changes = {name: _read(name, value) for name, value in given.items()}
        return self.show(state, changes | {"picture": ""}, "", request, progress, fresh=True)

    def draw_example(
        self, state: State, model: str, prompt: str, seed: int, steps: int, cfg: str, chosen: list[str],
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:  # fmt: skip
        return self.draw(state, model, chosen[0], seed, steps, cfg, request, progress)

    def give(
        self, state: State, name: str, model: str, caption: str, timestep: int, file: str,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:  # fmt: skip
        path = Path(file)
        try:
            digest = self.explorer.keep_picture(open_picture(path))
        except (ValueError, OSError) as error:
            raise gr.Error(str(error).replace(str(path), path.name), print_exception=False) from None
        changes = {"model": model, "caption": caption, "timestep": timestep, "picture": digest}
        return self.show(state, changes, path.name, request, progress, fresh=True)

    def give_example(
        self, state: State, name: str, model: str, caption: str, timestep: int, chosen: int,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:  # fmt: skip
        path = example(PICTURES[chosen])
        return self.give(state, name, model, caption, timestep, path, request, progress)

    def read(
        self, state: State, name: str, model: str, caption: str, timestep: int,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:  # fmt: skip
        if state.source.drawn:
            raise gr.Error("give a picture first: a file, or one of the examples", print_exception=False)
        changes = {"model": model, "caption": caption, "timestep": timestep}
        return self.show(state, changes, name, request, progress, fresh=True)

    def choose_model(
        self, state: State, model: str, request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Updates:  # fmt: skip
        """The same picture or prompt, by another model."""
        return self.show(state, {"model": model}, "", request, progress, fresh=True)

    def pick(self, state: State, name: str, event: gr.EventData, request: gr.Request) -> Updates:
        return self.show(state, {"token": int(event.token)}, name, request)

    def brush(self, state: State, name: str, event: gr.EventData, request: gr.Request) -> Updates:
        return self.show(state, {"region": tuple(sorted(map(int, event.region)))}, name, request)

    def choose(self, state: State, name: str, event: gr.EventData, request: gr.Request) -> Updates:
        changes = {"view": "walk", "layer": str(event.layer), "heads": str(int(event.head)), "token": None}
        return self.show(state, changes, name, request, fresh=True)

    def turn(self, state: State, name: str, event: gr.EventData) -> Updates:
        """The page shows the map already; link and code follow."""
        new = state.of(n=int(event.n))
        captured = self.explorer.captured(new.source)
        return self._texts(captured, new, name) | {self.parts.n: new.n}

    def cancel(self, request: gr.Request) -> None:
        stop = self.stops.get(str(request.session_hash))
        if stop is not None:
            stop.set()

    def save_png(self, state: State) -> str:
        data = io.BytesIO()
        picture_of(self.explorer.scene(state)).save(data, "PNG", optimize=True)
        return _file("tokenrank.png", "image/png", data.getvalue())

    def save_page(self, state: State) -> str:
        captured = self.explorer.captured(state.source)
        text = page_of(captured, state, self.explorer.scene(state))
        return _file("tokenrank.html", "text/html", text.encode())

    # What they share.

    def show(
        self,
        state: State,
        changes: dict[str, Any] | State,
        name: str,
        request: gr.Request,
        progress: gr.Progress | None = None,
        fresh: bool = False,
    ) -> Updates:
        """What changes on the page; a mistake is one sentence, and changes nothing."""
        session = str(request.session_hash)
        stop = self.stops[session] = threading.Event()
        told = (
            (lambda done, what: None) if progress is None else (lambda done, what: progress(done, desc=what))
        )
        try:
            new = changes if isinstance(changes, State) else state.of(**changes)
            captured = self.explorer.captured(new.source, Watch(told, stop))
            new = _fitting(captured, new)
            scene = self.explorer.scene(new, Watch(told, stop))
            texts = self._texts(captured, new, name)
        except Cancelled:
            gr.Info("cancelled")
            return gr.skip()  # type: ignore[return-value]
        except Exception as error:
            raise gr.Error(_sentence(error), print_exception=False) from None
        finally:
            if self.stops.get(session) is stop:
                del self.stops[session]
        again = fresh or new.source != state.source
        value = {"link": to_link(new), "scene": scene.to_json(pictures=again)}
        updates = texts | {self.parts.stage: json.dumps(value), self.parts.name: name}
        if again or new.view != state.view or new.layer != state.layer:
            updates |= self._controls(captured, new, scene)
        return updates | (self._sources(new) if again else {})

    def _texts(self, captured: Captured, state: State, name: str) -> Updates:
        parts, file = self.parts, {"name": name} if name else {}
        return {
            parts.state: state,
            parts.python: python_of(captured, state, **file),
            parts.command: command_of(captured, state, **file),
            parts.link: f"?{to_link(state)}",
        }

    def _controls(self, captured: Captured, state: State, scene: Scene) -> Updates:
        parts, steps = self.parts, captured.steps
        heads = captured.record(state.step, state.layer).heads
        choices = [
            ("weighted by λ2", "lambda2"),
            ("mean", "mean"),
            *((f"head {i}", f"{i}") for i in range(heads)),
        ]
        stride = steps[1] - steps[0] if len(steps) > 1 else 1
        values = {name: getattr(state, name) for name in ("direction", "damping", "anchors", "num_anchors")}
        more = {name: getattr(state, name) for name in ("threshold", "words", "scale")}
        return {
            **{
                getattr(parts, group): gr.update(visible=state.view in views)
                for group, views in parts.groups.items()
            },
            **{getattr(parts, one): value for one, value in (values | more).items()},
            parts.view: state.view,
            parts.arms: list(state.arms),
            parts.n: gr.update(value=state.n, visible=state.view != "walk"),
            parts.layer: gr.update(choices=["auto", *captured.layers], value=state.layer),
            parts.heads: gr.update(choices=choices, value=state.heads),
            parts.step: gr.update(
                minimum=steps[0] + 1,
                maximum=steps[-1] + 1,
                step=stride,
                value=captured.step(state.step) + 1,
                visible=len(steps) > 1,
            ),
        }

    def _sources(self, state: State) -> Updates:
        parts, source = self.parts, state.source
        values = {
            name: getattr(source, name)
            for name in ("model", "prompt", "seed", "steps", "caption", "timestep")
        }
        cfg = "" if source.cfg is None else f"{source.cfg:g}"
        return {getattr(parts, name): value for name, value in values.items()} | {parts.cfg: cfg}


def _fitting(captured: Captured, state: State) -> State:
    """Without marks outside another model's or layer's tokens; words begin with the prompt's."""
    record = captured.record(state.step, state.layer)
    changes: dict[str, Any] = {}
    if state.token is not None and state.token >= record.tokens:
        changes["token"] = None
    rows, columns = grid_of(record)
    if state.region and state.region[-1] >= rows * columns:
        changes["region"] = ()
    if state.head is not None and state.head >= record.heads:
        changes["heads"] = "lambda2"
    if state.view == "words" and not state.words and captured.source.drawn:
        changes["words"] = (captured.source.prompt.split() or [""])[-1].strip(".,")
    return state.of(**changes)


def _read(name: str, value: Any) -> Any:
    """A control's value as the state has it."""
    if name == "cfg":
        try:
            return float(value) if str(value).strip() else None
        except ValueError:
            raise gr.Error(
                f"CFG: got {value!r}, expected a number, or nothing", print_exception=False
            ) from None
    if name == "step":
        return int(value) - 1
    if name == "arms":
        return tuple(value)
    if name in ("seed", "steps", "n", "num_anchors", "timestep"):
        return int(value) if value is not None else -1
    return value.strip() if isinstance(value, str) else value


def _sentence(error: Exception) -> str:
    """The library's own, or for a fault of the program where to look."""
    line = explained(error)
    if line is not None:
        return line
    say(f"a fault: {''.join(traceback.format_exception(error)[-3:])}")
    return f"a fault in the program ({type(error).__name__}); the terminal says more"


def _file(name: str, kind: str, data: bytes) -> str:
    return json.dumps({"name": name, "type": kind, "data": base64.b64encode(data).decode()})
