"""`python -m tokenrank_guidance`: the same as `tokenrank`."""

import sys

from tokenrank_guidance.cli import main

if __name__ == "__main__":
    sys.exit(main())
