"""The area under a curve over fractions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def area_under_curve(
    fractions: Sequence[float] | Float[np.ndarray, " k"], values: Sequence[float] | Float[np.ndarray, "*n k"]
) -> Float[np.ndarray, "*n"]:
    """The mean height of a curve, Σ (f_{i+1} − f_i)(v_i + v_{i+1})/2 / (f_k − f_1), of each row of `values`.

    The span is that of the fractions given: whether 0 or 1 is among them is the caller's choice. It is linear
    in `values`, so that the area of the mean curve is the mean of the images' areas.

    Raises ValueError for fewer than two fractions, fractions that do not rise, or other than one value each.
    """
    x, y = np.asarray(fractions, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError(f"fractions {x.tolist()} must be at least two, and rise")
    if y.ndim == 0 or y.shape[-1] != len(x):
        raise ValueError(f"values are shaped {y.shape}, expected (..., {len(x)}): one for each fraction")
    heights = (y[..., 1:] + y[..., :-1]) / 2
    return heights @ np.diff(x) / (x[-1] - x[0])
