"""What is tried on a device like Apple's, in a process of its own: torch knows that device ever after."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration


@pytest.mark.extended
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch lets no device be made in Python",
)
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
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-4000:]
