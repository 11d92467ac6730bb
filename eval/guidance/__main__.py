"""`python -m eval.guidance`."""

import sys

from tokenrank_guidance.program import program

if __name__ == "__main__":
    sys.exit(program("eval.guidance"))
