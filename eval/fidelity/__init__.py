"""FID, IS, KID, precision, recall and accuracy of generated images, with intervals that are valid for each.

`python -m eval.fidelity` measures the arms that `eval.generate` drew. torch-fidelity is the engine. Without
Inception's weights the features are a classifier's own, and the numbers bear names that say so.
"""

from eval.fidelity.images import Generated, open_generated
from eval.fidelity.metrics import Accuracy, Frechet, Kernel, Metric, PrecisionRecall, Score
from eval.fidelity.resampling import Estimate, compare, estimate

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
