"""Images of every arm from the same seeds, in shards, resumable and the same bytes however they are split.

`python -m eval.generate` draws; `eval.fidelity` measures what it drew.
"""

from eval.generate.arms import Arm, parse_arm
from eval.generate.draw import Drawing, Drawn
from eval.generate.store import ArmStore, micro_batches

__all__ = ["Arm", "ArmStore", "Drawing", "Drawn", "micro_batches", "parse_arm"]
