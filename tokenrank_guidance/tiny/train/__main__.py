"""`python -m tokenrank_guidance.tiny.train`."""

import sys

from tokenrank_guidance.program import program

if __name__ == "__main__":
    sys.exit(program("tokenrank_guidance.tiny.train"))
