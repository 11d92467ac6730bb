"""Images of every arm from the same seeds, in shards, resumable and the same bytes however they are split.

`python -m eval.generate` draws; `eval.fidelity` measures what it drew.
"""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = ["Arm", "ArmStore", "Drawing", "Drawn", "micro_batches", "parse_arm"]

if TYPE_CHECKING:
    from eval.generate.arms import Arm, parse_arm
    from eval.generate.draw import Drawing, Drawn
    from eval.generate.store import ArmStore, micro_batches
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "eval.generate.arms": "Arm parse_arm",
            "eval.generate.draw": "Drawing Drawn",
            "eval.generate.store": "ArmStore micro_batches",
        },
    )
