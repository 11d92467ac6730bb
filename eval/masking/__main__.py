"""`python -m eval.masking`."""

import sys

from eval.cli import run
from eval.masking.command import main

if __name__ == "__main__":
    sys.exit(run(main))
