"""Two real processes measure what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.eval.masking.test_command import arguments, data, model  # noqa: F401  fixtures

ROOT = Path(__file__).parents[3]
# --cpu alone starts one process, whatever --num_processes says, unless it is given MPI's hosts.
LAUNCH = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
QUIET = ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m")


@pytest.mark.slow
def test_two_processes_report_what_one_does(model, data, tmp_path):  # noqa: F811
    reports = {}
    for name, launcher in {"one": (), "two": (*LAUNCH, *QUIET)}.items():
        done = subprocess.run(
            [sys.executable, "-m", *launcher, "eval.masking", *arguments(model, data, tmp_path / name)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        reports[name] = json.loads(done.stdout)
        del reports[name]["date"], reports[name]["config"]["out"]
    assert reports["two"] == reports["one"]
    assert sorted(path.name for path in (tmp_path / "two").glob("*.jsonl")) == [
        "images-0.jsonl",
        "images-1.jsonl",
    ]
