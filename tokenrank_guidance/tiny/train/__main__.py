"""`python -m tokenrank_guidance.tiny.train`."""

import sys

from tokenrank_guidance.tiny.train.options import main

if __name__ == "__main__":
    sys.exit(main())
