"""`python -m eval.zero_shot`."""

import sys

from eval.cli import program

if __name__ == "__main__":
    sys.exit(program("eval.zero_shot"))
