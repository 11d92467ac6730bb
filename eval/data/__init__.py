"""Labelled images, with masks where there are some, from a parquet file, a folder or the Hub."""

from eval.data.choice import rows
from eval.data.opening import open_images
from eval.data.source import Example, ImageSource, UnreadableImage

__all__ = ["Example", "ImageSource", "UnreadableImage", "open_images", "rows"]
