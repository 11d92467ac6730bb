"""`python -m eval.sweep`."""

import sys

from eval.cli import run
from eval.sweep.command import main

if __name__ == "__main__":
    sys.exit(run(main))
