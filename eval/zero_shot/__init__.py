"""Zero-shot segmentation from words, measured: bounces against row, column, rollout and ConceptAttention.

`python -m eval.zero_shot` runs it on pictures with masks. Sources: Erel et al. 2025, arXiv 2507.17657; the
metrics are Chefer et al.'s, CVPR 2021, and beside them the one of Helbling et al. 2025, arXiv 2502.04320.

The published setting, for whoever has weights, data and a word for each picture:

    python -m eval.zero_shot --model black-forest-labs/FLUX.1-schnell --dtype bfloat16 --size 512 \\
        --data imagenet-seg:gtsegs_ijcv.mat --names names.txt --timesteps 500 --draws 5 --out out/flux

What that takes, by `python -m tests.benchmarks.zero_shot_memory`: at 1,024 image and 512 text tokens in
bfloat16 all blocks hold 22.4 GiB, of which reading is 0.1 %; on one core a pass takes 131 s without reading,
135 s with equal heads and 263 s with λ2, and there are 4,276 × 5 passes. `--methods` and
`--curve 0` say what is read.
"""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = ["ARMS", "Arm", "Tally", "ZeroShotResult"]

if TYPE_CHECKING:
    from eval.zero_shot.arms import ARMS, Arm
    from eval.zero_shot.result import ZeroShotResult
    from eval.zero_shot.tally import Tally
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "eval.zero_shot.arms": "ARMS Arm",
            "eval.zero_shot.result": "ZeroShotResult",
            "eval.zero_shot.tally": "Tally",
        },
    )
