"""Compile the numeric kernels by fitting small made-up tables of every kind."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from multilevel.api.fit import fit

_KINDS = (
    ("one factor", "y ~ x + (1 | school)"),
    ("random slopes", "y ~ x + (x | school)"),
    ("nested factors", "y ~ x + (1 | school) + (1 | district)"),
    ("crossed factors", "y ~ x + (1 | school) + (x | item)"),
)


def table(n_schools: int = 60, n_items: int = 8) -> pd.DataFrame:
    """Return a small table with an outcome, a predictor, nested and crossed ids (no randomness)."""
    school = np.repeat(np.arange(n_schools), n_items)
    item = np.tile(np.arange(n_items), n_schools)
    i = np.arange(school.size, dtype=float)
    x = np.sin(1.3 * i) + np.cos(0.7 * i)
    noise = np.sin(2.1 * i**1.1) + np.cos(3.7 * i)
    y = 1.0 + x * (0.5 + 0.3 * np.sin(2.0 * school)) + np.cos(5.0 * school) + np.sin(item) + noise
    return pd.DataFrame({"y": y, "x": x, "school": school, "district": school // 6, "item": item})


def warm_up() -> list[tuple[str, float]]:
    """Fit every kind of model once; return ``(kind, seconds)``."""
    data, out = table(), []
    for kind, formula in _KINDS:
        start = time.perf_counter()
        for method in ("reml", "ml"):
            fit(formula, data, method=method)
        out.append((kind, time.perf_counter() - start))
    return out
