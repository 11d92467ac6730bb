"""Pipelines on disk, and the program run in this process."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.small import SMALL
from tests.tiny_models import pipeline
from tokenrank_guidance.cli import main
from tokenrank_guidance.tiny.architecture import build_pipeline

EMBEDDED = ("tiny-flux", "tiny-sd")


def _write(name: str, folder: Path) -> None:
    if name in EMBEDDED:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            build_pipeline(name, 32, SMALL).save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps({"resolution": 32}))
        return
    pipe = pipeline(name)
    if name in ("flux", "sd3"):
        pipe.vae.register_to_config(shift_factor=0.0)
    pipe.save_pretrained(folder)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """`model(name)`: the folder of an untrained embedded pipeline or of one of `tests.tiny_models`."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> str:
        if not (root / name).exists():
            _write(name, root / name)
        return str(root / name)

    return folder


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def result(self) -> dict:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def mistake(self) -> str:
        """What the program said; it must be one line, and the exit code 2."""
        assert self.code == 2, self.err
        assert self.out == ""
        lines = self.err.replace("\r", "\n").strip().splitlines()
        assert lines[-1].startswith("error: ")
        assert "Traceback" not in self.err
        assert all(line.startswith("model: ") for line in lines[:-1])
        return lines[-1]


@pytest.fixture
def tokenrank(capsys):
    """`tokenrank(*arguments)` runs the program."""

    def run(*arguments: object) -> Run:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Run(code, *capsys.readouterr())

    return run
