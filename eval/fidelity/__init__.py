"""FID, IS, KID, precision, recall and accuracy of generated images, with intervals that are valid for each.

`python -m eval.fidelity` measures the arms that `eval.generate` drew. torch-fidelity is the engine. Without
Inception's weights the features are a classifier's own, and the numbers bear names that say so.
"""

from typing import TYPE_CHECKING

from tokenrank_guidance.lazy import lazy

__all__ = [
    "Accuracy",
    "Estimate",
    "Frechet",
    "Generated",
    "Kernel",
    "Metric",
    "PrecisionRecall",
    "Score",
    "compare",
    "estimate",
    "open_generated",
]

if TYPE_CHECKING:
    from eval.fidelity.images import Generated, open_generated
    from eval.fidelity.metrics import Accuracy, Frechet, Kernel, Metric, PrecisionRecall, Score
    from eval.fidelity.resampling import Estimate, compare, estimate
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "eval.fidelity.images": "Generated open_generated",
            "eval.fidelity.metrics": "Accuracy Frechet Kernel Metric PrecisionRecall Score",
            "eval.fidelity.resampling": "Estimate compare estimate",
        },
    )
