"""Reading self-attention off a running model.

`capture` is the context manager; `AttentionTap` is the same for a model that is called thousands of times.
Neither sees passes made under `unwatched`.
"""

from tokenrank_guidance.capture.gradients import GradientRecord, Gradients, attention_gradients
from tokenrank_guidance.capture.record import AttentionRecord
from tokenrank_guidance.capture.session import Capture, capture
from tokenrank_guidance.capture.tap import AttentionTap
from tokenrank_guidance.capture.unwatched import is_unwatched, unwatched

__all__ = [
    "AttentionRecord",
    "AttentionTap",
    "Capture",
    "GradientRecord",
    "Gradients",
    "attention_gradients",
    "capture",
    "is_unwatched",
    "unwatched",
]
