"""What is tried on a device like Apple's, in a process of its own: torch knows that device ever after."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.extended
def test_on_a_device_without_float64():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-o",
        "addopts=-q --strict-markers",
        "-m",
        "apple",
        "tests/apple",
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
