"""Choosing a guidance's settings on one range of seeds, and reporting the chosen ones on another."""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = ["Grid"]

if TYPE_CHECKING:
    from eval.sweep.grid import Grid
else:
    __getattr__, __dir__ = lazy(__name__, {"eval.sweep.grid": "Grid"})
