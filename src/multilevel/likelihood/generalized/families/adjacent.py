r"""Adjacent categories: ``log P(Y = c + 1) / P(Y = c) = eta - tau_{c+1}``, ``c = 0..C-2``.

So ``P(Y = c)`` is proportional to ``exp(c eta - tau_1 - ... - tau_c)``. Thresholds are in no order.
Source: Agresti 2010, 4.1.

Item response models
--------------------
With ``eta = theta_person - ...`` this family is the Rasch family of polytomous models:

* **Partial credit** (Masters 1982), ``P(Y = c)`` proportional to
  ``exp(sum_{k <= c} (theta_p - delta_ik))``: the mean part holds the person effect only
  (``0 + (1 | person)``), every threshold part holds a column for each item, so that the
  coefficients of ``threshold k`` are the step difficulties ``delta_ik`` of the items.
* **Rating scale** (Andrich 1978), ``delta_ik = beta_i + tau_k``: threshold parts hold an intercept
  only; the mean part holds ``(1 | person)`` and the items with contrast coding (one item, or the
  mean of all, as the reference: thresholds take the place of the intercept). The coefficient of an
  item in the mean part is its easiness ``-beta_i``; with sum contrasts ``beta_i`` sums to zero and
  ``tau_k`` are the mean steps. Random items: ``(1 | item)`` in the mean part.
* Rating scale is partial credit without the item-by-threshold interactions, so the two are nested
  and their likelihoods compare with ``(I - 1)(C - 2)`` degrees of freedom.
* Items with fewer steps than others are not of this family (each item would need its own C).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families.softmax import SoftmaxRows
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class AdjacentRows(SoftmaxRows):
    """Rows of an adjacent category family: part 0 the mean, part c the threshold ``tau_c``."""

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency_weights: Array | None = None,
    ) -> None:
        D = len(family.parts)
        utilities = np.zeros((D, D))
        utilities[:, 0] = np.arange(float(D))
        utilities[:, 1:] = -np.tri(D, D - 1, -1)
        super().__init__(family, response, random, utilities, frequency_weights)
