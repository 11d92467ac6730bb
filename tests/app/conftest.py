"""An explorer over small untrained models, and the pictures and programs that the tests share."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

from tests.cli.conftest import model, tokenrank
from tests.tiny_vits import build
from tokenrank_guidance.app.explorer import Explorer, Settings
from tokenrank_guidance.app.state import Source, State

__all__ = ["model", "tokenrank"]
NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """A file that is not square."""
    path = tmp_path_factory.mktemp("pictures") / "a picture.png"
    Image.fromarray(NOISE).save(path)
    return path


@pytest.fixture(scope="session")
def vit(tmp_path_factory) -> str:
    """A vision transformer's folder."""
    folder = tmp_path_factory.mktemp("vit")
    build("dinov2_registers").save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def explorer() -> Explorer:
    return Explorer(Settings(models=("tiny-sd", "tiny-flux")))


@pytest.fixture
def state(model) -> State:
    """A small picture's walk."""
    return State(Source(model=model("tiny-sd"), prompt="a photo of a church", steps=3, seed=4), n=3)


def ran(program: str, folder: Path, monkeypatch: Any) -> dict[str, Any]:
    """The names that a copied program has made, run in `folder`."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        exec(compile(program, "copied", "exec"), names)
    return names
