"""`python -m eval.fidelity.reference`."""

import sys

from tokenrank_guidance.program import LOST, program

if __name__ == "__main__":
    sys.exit(program("eval.fidelity.reference", interrupted=LOST))
