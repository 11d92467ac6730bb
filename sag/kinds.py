"""The kinds of guidance that are compared, by name: none, those of scorers, and diffusers' PAG."""

from __future__ import annotations

from sag.scorers import SCORERS

NONE, PAG = "none", "pag"
TITLES = {NONE: "unguided", **{name: scorer.title for name, scorer in SCORERS.items()}, PAG: "PAG"}
PAG_SCALE = 3.0  # diffusers' own default
