"""Choosing a guidance's settings on one range of seeds, and reporting the chosen ones on another."""

from eval.sweep.grid import Grid

__all__ = ["Grid"]
