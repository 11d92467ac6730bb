"""What a command tells its user beside the result."""

import sys

from tqdm import tqdm


def say(text: str) -> None:
    """Print one line on stderr, whatever `text` holds, without breaking a progress bar."""
    tqdm.write(" ".join(text.split()), file=sys.stderr)
