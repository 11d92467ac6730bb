"""`python -m tokenrank_guidance.tiny.evaluate`."""

import sys

from tokenrank_guidance.program import LOST, program

if __name__ == "__main__":
    sys.exit(program("tokenrank_guidance.tiny.evaluate", interrupted=LOST))
