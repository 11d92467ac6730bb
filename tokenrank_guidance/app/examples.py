"""What there is to begin with: prompts that the embedded models know, and pictures of the package."""

from importlib.resources import files
from pathlib import Path

PROMPTS = ["a photo of a church", "a photo of a flower", "a photo of a boat", "a photo of a motorbike"]
PICTURES = ["china.jpg", "flower.jpg"]


def example(name: str) -> Path:
    """Where a picture of the package is."""
    return Path(str(files("tokenrank_guidance.app") / "static" / "examples" / name))
