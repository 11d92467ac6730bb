"""What a segmentation's settings choose from, and which options go together; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffseg.maps.anchors import ANCHORS
from tokenrank_guidance.option_groups import refuse_without_effect

ANCHOR_NAMES = tuple(ANCHORS)
BLIND = tuple(name for name, rule in ANCHORS.items() if rule.blind)  # what others are compared with
SAMPLED = tuple(name for name, rule in ANCHORS.items() if rule.drawn)
PRESET_NAMES = ("default", "reference")
VOTES = ("majority", "mean")
MOST_MERGES = 1000


def check_anchor_options(arguments: Any, anchors: Sequence[str], random: bool = False) -> None:
    """ValueError for a damping that no anchors depend on, and a seed that nothing is drawn from.

    `random`: whether something beside anchors and noise is drawn.
    """
    if all(name in BLIND for name in anchors):
        refuse_without_effect(arguments, ["damping"], f"{', '.join(anchors)} anchors ask no TokenRank")
    if not random and not arguments.add_noise and not any(name in SAMPLED for name in anchors):
        refuse_without_effect(
            arguments, ["seed"], f"only --add-noise and --anchors {' or '.join(SAMPLED)} draw from it"
        )
