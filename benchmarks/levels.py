"""Compact level codes of grouping columns. Needs NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def level_codes(columns: dict[str, Any], group: tuple[str, ...]) -> NDArray[np.int64]:
    """Level of each row, 0, 1, ..., of the combination of the columns ``group``."""
    codes = np.zeros(len(columns[group[0]]), dtype=np.int64)
    for name in group:
        _, level = np.unique(columns[name], return_inverse=True)
        _, codes = np.unique(codes * (int(level.max()) + 1) + level, return_inverse=True)
    return codes
