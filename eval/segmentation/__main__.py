"""`python -m eval.segmentation`."""

import sys

from eval.cli import program

if __name__ == "__main__":
    sys.exit(program("eval.segmentation"))
