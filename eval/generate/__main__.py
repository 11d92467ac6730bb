"""`python -m eval.generate`."""

import sys

from eval.cli import run
from eval.generate.command import main

if __name__ == "__main__":
    sys.exit(run(main))
