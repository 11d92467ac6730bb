"""Two real processes measure what one does, in every experiment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.eval.masking.test_command import arguments as of_masking
from tests.eval.masking.test_command import data as labelled  # noqa: F401  a fixture
from tests.eval.masking.test_command import model as vit  # noqa: F401  a fixture
from tests.eval.segmentation.test_command import arguments as of_segmentation
from tests.eval.zero_shot.test_command import arguments as of_zero_shot
from tests.eval.zero_shot.test_command import data as squares  # noqa: F401  a fixture
from tests.eval.zero_shot.test_command import flux  # noqa: F401  a fixture
from tests.eval.zero_shot.test_heads import arguments as of_heads

ROOT = Path(__file__).parents[2]
# --cpu alone starts one process, whatever --num_processes says, unless it is given MPI's hosts.
LAUNCH = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
QUIET = ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m")
TIMES = ("seconds_per_image", "attention_seconds", "segmentation_seconds")

pytestmark = pytest.mark.slow


@pytest.fixture
def options(vit, labelled, squares, flux, tmp_path):  # noqa: F811
    """`options(experiment, name)`: what each is given, with its results in folder `name`."""
    return lambda experiment, name: {
        "eval.masking": lambda out: of_masking(vit, labelled, out),
        "eval.segmentation": lambda out: of_segmentation(vit, squares, out, "--match", "all"),
        "eval.zero_shot": lambda out: of_zero_shot(flux, squares, out),
        "eval.zero_shot.heads": lambda out: of_heads(flux, squares, out),
    }[experiment](tmp_path / name)


@pytest.mark.parametrize(
    "experiment", ["eval.masking", "eval.segmentation", "eval.zero_shot", "eval.zero_shot.heads"]
)
def test_two_processes_report_what_one_does(options, tmp_path, experiment):
    reports = {}
    for name, launcher in {"one": (), "two": (*LAUNCH, *QUIET)}.items():
        done = subprocess.run(
            [sys.executable, "-m", *launcher, experiment, *options(experiment, name)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        reports[name] = json.loads(done.stdout)
        del reports[name]["date"], reports[name]["command"], reports[name]["config"]["out"]
        for row in reports[name]["results"]:
            for time in TIMES:
                row.pop(time, None)
    assert reports["two"] == reports["one"]
    assert sorted(path.name for path in (tmp_path / "two").glob("*.jsonl")) == [
        "images-0.jsonl",
        "images-1.jsonl",
    ]
    lines = [path.read_text() for path in (tmp_path / "two").glob("*.jsonl")]
    assert "".join(lines).count('"key"') == reports["two"]["n"] + 1  # and the one that cannot be read
