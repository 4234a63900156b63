"""Columns of X for invented rows: any value of each variable, no table needed.

Centred variables are given as such: the value of ``within(x, g)``, not of ``x`` and ``g``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.encode import replay_columns
from multilevel.design.recipe import LearntColumns

Array = NDArray[np.float64]


def invented_rows(
    learnt: LearntColumns,
    values: Mapping[str, Sequence[Any]],
    categories: Mapping[str, Sequence[Any]],
    n: int,
) -> Array:
    """Encode ``n`` invented rows as the design was encoded: (n, columns of ``learnt``).

    Parameters
    ----------
    values : ``{identifier: n values}`` of every identifier of ``learnt.compiled``.
    categories : ``{identifier: known categories}`` of the categorical ones.

    Raises
    ------
    DesignError : a value for which a term has no finite number.
    """
    columns: dict[str, Any] = {}
    for identifier, given in values.items():
        known = categories.get(identifier)
        if known is None:
            columns[identifier] = np.asarray(given, dtype=np.float64)
        elif isinstance(known[0], str):
            columns[identifier] = pd.Categorical(list(given), categories=list(known))
        else:
            columns[identifier] = np.asarray(given)
    return replay_columns(learnt, columns, n, None)
