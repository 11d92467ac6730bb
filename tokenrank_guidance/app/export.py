"""What is on the screen as files: a picture, a page that needs no server, and the numbers."""

from __future__ import annotations

import base64
import html
import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from tokenrank_guidance.app.chains import chain_of
from tokenrank_guidance.app.passes import Captured
from tokenrank_guidance.app.picture import picture_of
from tokenrank_guidance.app.scene import Json, Scene, packed
from tokenrank_guidance.app.state import State

PICTURE, PAGE = "shown.png", "shown.html"
MOST_TOKENS = 1400  # of a chain that a file holds: 8 MB of float32
COLOURS = ("magma", "viridis")


@lru_cache
def static(name: str) -> str:
    """One of the package's own files."""
    return (files("tokenrank_guidance.app") / "static" / name).read_text(encoding="utf-8")


@lru_cache
def colour_tables() -> dict[str, str]:
    """256 RGB colours of each map, as base64."""
    tables = {}
    for name in COLOURS:
        table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
        tables[name] = base64.b64encode(np.ascontiguousarray(table).tobytes()).decode()
    return tables


def page_of(captured: Captured, state: State, scene: Scene) -> str:
    """One HTML file that loads nothing; walks can be begun anywhere in it where the chain is small enough."""
    data: Json = {"scene": scene.to_json(), "luts": colour_tables(), "chain": None}
    if state.view == "walk" and scene.total <= MOST_TOKENS:
        data["chain"] = _chain(captured, state)
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return static("page.html").format(
        title=html.escape(f"{scene.title}: {captured.source.model}"),
        style=static("stage.css"),
        stage=static("stage.js"),
        offline=static("offline.js"),
        data=text,
    )


@torch.no_grad()
def _chain(captured: Captured, state: State) -> Json:
    record = captured.record(state.step, state.layer)
    matrix = chain_of(captured, state).to_dense().reshape(record.tokens, record.tokens)
    return {"matrix": packed(matrix.cpu().float().numpy()), "direction": state.direction}


def write_shown(folder: Path, captured: Captured, state: State, scene: Scene) -> list[str]:
    """Write picture and page; returns their names."""
    picture_of(scene).save(folder / PICTURE, "PNG", optimize=True)
    (folder / PAGE).write_text(page_of(captured, state, scene), encoding="utf-8")
    return [PICTURE, PAGE]


def numbers_of(scene: Scene) -> Json:
    """The maps as nested lists, in full."""
    heats: Any = [{"name": heat.name, "values": heat.values.tolist()} for heat in scene.heats]
    tiles = [
        {"layer": one.layer, "head": one.head, "lambda2": one.lambda2, "values": one.heat.values.tolist()}
        for one in scene.tiles
    ]
    return {"grid": list(scene.grid), "shown": scene.shown, "maps": heats, "heads": tiles}
