"""Tiny pipelines on disk, and drawing from them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from PIL import Image

from eval.generate.command import main
from tests.small import SMALL
from tests.tiny_models import pipeline
from tokenrank_guidance.program import run
from tokenrank_guidance.tiny.architecture import build_pipeline


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """`model(name)`: the folder of a random pipeline; "tiny-flux" is untrained and knows its captions."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> str:
        path = root / name
        if not path.exists() and name == "tiny-flux":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                build_pipeline(name, 32, SMALL).save_pretrained(path)
            (path / "training.json").write_text(json.dumps({"resolution": 32}))
        elif not path.exists():
            pipeline(name).save_pretrained(path)
        return str(path)

    return folder


@pytest.fixture
def draw(model, tmp_path, capsys):
    """`draw(*options, out=, code=0)` runs the program; returns the report, or the last line of stderr."""

    def run_it(*options, out: Path = tmp_path / "out", name="tiny-flux", code=0):
        PartialState._reset_state()
        arguments = ["--model", model(name), "--steps", 2, "--device", "cpu", "--out", out, *options]
        found = run(main, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert found == code, captured.err
        if code == 0:
            return json.loads(captured.out or "null")
        assert captured.out == "" and "Traceback" not in captured.err
        return captured.err.strip().splitlines()[-1]

    return run_it


def images(folder: Path) -> dict[str, bytes]:
    """Every image's bytes, by its path in the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)
