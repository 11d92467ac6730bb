"""`python -m eval.segmentation`."""

import sys

from eval.cli import run
from eval.segmentation.command import main

if __name__ == "__main__":
    sys.exit(run(main))
