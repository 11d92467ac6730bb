"""Real processes, really killed: the same bytes, nothing drawn twice, nothing missing, nothing torn."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.eval.generate.conftest import images

ROOT = Path(__file__).parents[3]
ARMS, N, BATCH = ("none", "tokenrank"), 64, 4
# --cpu alone starts one process, whatever --num_processes says, unless it is given MPI's hosts.
LAUNCH = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
QUIET = ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m")

pytestmark = pytest.mark.slow


@pytest.fixture
def start(model, tmp_path):
    """`start(name, processes)`: the program at work in processes of its own, its images in folder `name`."""
    begun = []

    def run(name: str, processes: int = 1, *more: str) -> subprocess.Popen:
        launcher = (*LAUNCH, *QUIET) if processes > 1 else ()
        options = ["--model", model("tiny-flux"), "--arms", ",".join(ARMS), "--n", N, "--batch-size", BATCH]
        options += ["--steps", 2, "--device", "cpu", "--out", tmp_path / name, *more]
        process = subprocess.Popen(
            [sys.executable, "-m", *launcher, "eval.generate", *map(str, options)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        kill(process)


def kill(process: subprocess.Popen) -> None:
    """kill -9 of the process and of all that it started, which a launcher's death would leave running."""
    if process.poll() is None:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in family:
            one.kill()
        psutil.wait_procs(family, timeout=10)
    process.communicate()


def finished(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def batches(folder: Path) -> Counter[tuple[str, str]]:
    """How often the journals of each arm have each micro-batch."""
    files = [(path.parent.name, path.read_text()) for path in folder.rglob("*.jsonl")]
    lines = [(arm, line) for arm, text in files for line in text.splitlines(keepends=True)]
    return Counter(
        (arm, json.loads(line)["key"]) for arm, line in lines if line.endswith("}\n") and '"key"' in line
    )


def complete(folder: Path) -> bool:
    return sorted(images(folder)) == sorted(f"{arm}/000/{i:06d}.png" for arm in ARMS for i in range(N))


def wait_for(folder: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while batches(folder).total() < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole() -> dict[str, dict[str, bytes]]:
    """What one process draws, kept from the first test that needs it."""
    return {}


@pytest.fixture
def one(start, whole, tmp_path):
    if not whole:
        finished(start("one"))
        assert complete(tmp_path / "one")
        whole.update(images=images(tmp_path / "one"))
    return whole["images"]


def test_two_processes_give_the_bytes_of_one(start, one, tmp_path):
    finished(start("two", 2))
    assert images(tmp_path / "two") == one
    journals = sorted(path.name for path in (tmp_path / "two" / "tokenrank").glob("*.jsonl"))
    assert journals == ["batches-0.jsonl", "batches-1.jsonl"]


@pytest.mark.parametrize(("killed", "resumed"), [(2, 1), (1, 2)])
def test_after_a_kill_nothing_is_drawn_twice_or_missing(start, one, tmp_path, killed, resumed):
    folder, total = tmp_path / "killed", len(ARMS) * N // BATCH
    process = start("killed", killed)
    wait_for(folder, total * 5 // 8, process)  # in the middle of the second arm
    kill(process)
    before, stamps = batches(folder), committed(folder)
    assert total * 5 // 8 <= before.total() < total and stamps
    assert not (folder / "tokenrank" / "manifest.json").exists()
    finished(start("killed", resumed))
    assert images(folder) == one
    assert committed(folder).items() >= stamps.items()
    after = batches(folder)
    assert set(after.values()) == {1} and len(after) == total


def committed(folder: Path) -> dict[str, int]:
    """When each image of a micro-batch that a journal has was written."""
    done = batches(folder)
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("[0-9]*.png")
        if (path.parents[1].name, str(int(path.stem) // BATCH * BATCH)) in done
    }
