"""What an event changes: the stage, the controls around it, and the texts to copy."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from sag.kinds import PAG
from tokenrank_guidance.app.code import python_of
from tokenrank_guidance.app.commands import command_of
from tokenrank_guidance.app.layout import GROUPS, Parts, cfg_text
from tokenrank_guidance.app.passes import Captured
from tokenrank_guidance.app.scene import Scene
from tokenrank_guidance.app.state import State, to_link

Updates = dict[Any, Any]
PLAIN = ("direction", "damping", "anchors", "num_anchors", "threshold", "words", "scale", "view")
OF_SOURCES = ("model", "prompt", "seed", "steps")


class Answers:
    """Updates of the page's parts."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def shown(
        self, before: State | None, state: State, captured: Captured, scene: Scene, name: str
    ) -> Updates:
        """The next state; controls are set where others belong to it, so that nobody's typing is undone."""
        again = before is None or before.source != state.source
        updates = self.texts(captured, state, name)
        updates |= {self.parts.stage: self.stage(state, scene, pictures=again), self.parts.name: name}
        if before is None or again or (before.view, before.layer) != (state.view, state.layer):
            updates |= self.controls(captured, state)
        updates[self.parts.pag_scale] = gr.update(value=state.pag_scale, visible=PAG in state.arms)
        return updates | (self.sources(captured, state) if again else {})

    def stage(self, state: State, scene: Scene, pictures: bool = True, first: bool = False) -> str:
        """What the stage is given; the `first` is shown where the address asks for nothing else."""
        value = {"link": to_link(state), "scene": scene.to_json(pictures), "first": first}
        return json.dumps(value)

    def turned(self, captured: Captured, state: State, name: str) -> Updates:
        """Another number of bounces, which the page shows by itself."""
        return self.texts(captured, state, name) | {self.parts.n: state.n}

    def texts(self, captured: Captured, state: State, name: str) -> Updates:
        parts, file = self.parts, {"name": name} if name else {}
        return {
            parts.state: state,
            parts.python: python_of(captured, state, **file),
            parts.command: command_of(captured, state, **file),
            parts.link: f"?{to_link(state)}",
        }

    def controls(self, captured: Captured, state: State) -> Updates:
        parts, count = self.parts, captured.record(state.step, state.layer).heads
        heads = [
            ("weighted by λ2", "lambda2"),
            ("mean", "mean"),
            *((f"head {i}", f"{i}") for i in range(count)),
        ]
        shown = {one: state.view in views for one, views in GROUPS.items()}
        shown["walking"] &= state.view != "heads" or state.token is not None  # else each head's TokenRank
        return {
            **{getattr(parts, one): gr.update(visible=visible) for one, visible in shown.items()},
            **{getattr(parts, one): getattr(state, one) for one in PLAIN},
            parts.arms: list(state.arms),
            parts.n: gr.update(value=state.n, visible=state.view != "walk"),
            parts.direction: gr.update(value=state.direction, visible=state.view != "words"),
            parts.layer: gr.update(
                choices=["auto", *captured.layers], value=state.layer, visible=state.view != "heads"
            ),
            parts.heads: gr.update(choices=heads, value=state.heads, visible=state.view != "heads"),
            parts.step: _step(captured, state),
        }

    def sources(self, captured: Captured, state: State) -> Updates:
        """What was asked for; a vision transformer reads neither caption nor timestep."""
        values = {getattr(self.parts, name): getattr(state.source, name) for name in OF_SOURCES}
        reads = captured.opened.model is not None
        for name in ("caption", "timestep"):
            values[getattr(self.parts, name)] = gr.update(value=getattr(state.source, name), visible=reads)
        return values | {self.parts.cfg: cfg_text(state.source.cfg)}


def _step(captured: Captured, state: State) -> Any:
    """A slider over the steps that are kept, which are evenly apart; hidden where there is but one."""
    steps = captured.steps
    if len(steps) < 2:
        return gr.update(visible=False)
    ends: dict[str, Any] = {"minimum": steps[0] + 1, "maximum": steps[-1] + 1, "step": steps[1] - steps[0]}
    return gr.update(**ends, value=captured.step(state.step) + 1, visible=True)
