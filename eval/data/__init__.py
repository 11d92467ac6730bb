"""Labelled images, with masks where there are some, from a parquet file, a folder or the Hub."""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = ["Example", "ImageSource", "UnreadableImage", "open_images", "rows"]

if TYPE_CHECKING:
    from eval.data.choice import rows
    from eval.data.opening import open_images
    from eval.data.source import Example, ImageSource, UnreadableImage
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "eval.data.choice": "rows",
            "eval.data.opening": "open_images",
            "eval.data.source": "Example ImageSource UnreadableImage",
        },
    )
