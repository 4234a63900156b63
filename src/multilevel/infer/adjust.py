"""P-values and intervals of several comparisons at once.

Sources: Holm 1979; Dunn 1961 (Bonferroni); Tukey 1953 and Kramer 1956 (studentised range; exact
for equal and independent variances, an approximation otherwise).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile, t_quantile

Array = NDArray[np.float64]
Adjustment = Literal["tukey", "holm", "bonferroni", "none"]
ADJUSTMENTS: tuple[str, ...] = get_args(Adjustment)


def check_adjustment(adjust: str) -> Adjustment:
    """Return the adjustment's name, or say which are allowed (``InferenceError``)."""
    for name in get_args(Adjustment):
        if str(adjust).lower() == name:
            return name  # type: ignore[no-any-return]
    raise InferenceError(
        "adjust must be one of " + ", ".join(map(repr, ADJUSTMENTS)) + ".",
        f"adjust={adjust!r}",
        "write adjust='tukey'",
    )


def adjusted_p(p: Array, statistic: Array, df: Array, n_means: int, adjust: Adjustment) -> Array:
    """Adjusted p-values (m,) of two-sided tests; ``n_means`` are compared in all pairs."""
    m = len(p)
    if adjust == "none" or m == 0:
        return p.copy()
    if adjust == "bonferroni":
        return np.minimum(m * p, 1.0)
    if adjust == "tukey":
        from scipy import stats  # slow to import, and only wanted here

        q = np.abs(statistic) * np.sqrt(2.0)
        return np.clip(stats.studentized_range.sf(q, n_means, df), 0.0, 1.0)
    order = np.argsort(p)
    out = np.empty(m)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(m, 0, -1)), 1.0)
    return out


def simultaneous_critical(df: Array, conf_level: float, n_means: int, adjust: Adjustment) -> Array:
    """Critical values (m,) of intervals; Holm has none of its own and takes Bonferroni's."""
    m = len(df)
    if adjust == "tukey":
        from scipy import stats  # slow to import, and only wanted here

        q = stats.studentized_range.ppf(conf_level, n_means, df)
        return np.asarray(q / np.sqrt(2.0), dtype=np.float64)
    level = conf_level if adjust == "none" else 1.0 - (1.0 - conf_level) / max(m, 1)
    tail = 0.5 * (1.0 + level)
    finite = np.isfinite(df)
    t = t_quantile(tail, np.where(finite, df, 1.0))
    return np.asarray(np.where(finite, t, normal_quantile(tail)), dtype=np.float64)
