"""`python -m eval.zero_shot.heads`."""

import sys

from eval.cli import run
from eval.zero_shot.heads.command import main

if __name__ == "__main__":
    sys.exit(run(main))
