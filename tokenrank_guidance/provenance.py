"""Where a result came from: what every report begins with."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import torch

from tokenrank_guidance.program import started
from tokenrank_guidance.report import PACKAGES, Json, plain, versions

SAID = "TOKENRANK_COMMIT"
WEIGHTS = "weights"  # of a configuration: the digest of the model's, or of each model's by name


def provenance(config: Mapping[str, object], seed: int, n: int, packages: Iterable[str] = PACKAGES) -> Json:
    """The command, the commit, the weights' digest, settings, seed, n, versions, device and date (UTC).

    The command is None where no program was started, the digest where `config` has none; for the commit see
    `commit`.
    """
    return {
        "command": command(),
        "commit": commit(),
        "weights": plain(config.get(WEIGHTS)),
        "config": plain(config),
        "seed": seed,
        "n": n,
        "versions": {"python": platform.python_version()} | versions(packages),
        "device": _device(str(config.get("device", "auto"))),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command() -> str | None:
    """What a shell takes to start the running program again; None where none was started."""
    words = started()
    return None if words is None else shlex.join(words)


@cache
def commit() -> str | None:
    """The commit of the checkout that this code is in, with -dirty after it where files differ from it.

    None where the code is installed, where git is not, and where the checkout is another project's: such a
    copy's commit can be said by the environment, in TOKENRANK_COMMIT.
    """
    said = os.environ.get(SAID)
    if said:
        return said
    package = Path(__file__).resolve().parent
    try:
        tracked = _git(package, "ls-files", "--error-unmatch", Path(__file__).name)
        return (
            _git(package, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
            if tracked
            else None
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    asked = ("git", "-C", str(folder), *arguments)
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def _device(asked: str) -> str:
    """The accelerator's name unless the CPU was asked for."""
    if asked != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu, {platform.machine()}"
