"""The names that a segmentation's settings choose from; nothing here needs torch."""

ANCHOR_NAMES = (
    "tokenrank-grid",
    "uniform",
    "tokenrank-topk",
    "tokenrank-nms",
    "tokenrank-sample",
    "reference",
)
BLIND = ("uniform", "reference")  # anchors that do not look at the chain, in the order of being compared with
SAMPLED = ("tokenrank-sample",)  # anchors that are drawn at random
PRESET_NAMES = ("default", "reference")
VOTES = ("majority", "mean")
MOST_MERGES = 1000
