"""`python -m tokenrank_guidance.tiny.evaluate`."""

import sys

from tokenrank_guidance.tiny.evaluate.options import main

if __name__ == "__main__":
    sys.exit(main())
