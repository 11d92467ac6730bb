"""`python -m eval.fidelity`."""

import sys

from eval.cli import run
from eval.fidelity.command import main

if __name__ == "__main__":
    sys.exit(run(main))
