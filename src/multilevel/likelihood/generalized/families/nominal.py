"""Nominal categories: ``log P(Y = c) / P(Y = first) = eta_c``, a part for each but the first.

Source: Agresti 2013, 8.1; with random effects in several parts Hartzel, Agresti & Caffo 2001.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families.softmax import SoftmaxRows
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class NominalRows(SoftmaxRows):
    """Rows of a nominal response; part d belongs to category d + 1."""

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency_weights: Array | None = None,
    ) -> None:
        D = len(family.parts)
        utilities = np.vstack([np.zeros((1, D)), np.eye(D)])
        super().__init__(family, response, random, utilities, frequency_weights)
