"""What all families of categories share: codes, probabilities, draws, starts."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.families.part_rows import PartRows, predictors_of
from multilevel.likelihood.generalized.row import ALL, Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class CategoryRows(PartRows):
    """Rows of a response of categories, codes 0..C-1.

    Parameters
    ----------
    family : with all its parts (``with_categories``); D = C for ordered families, C - 1 for
        nominal ones.
    response : codes in ``y``; C labels in ``categories``.
    random : the random parts.
    log_concave : see ``RowLikelihood``.
    frequency_weights : (n,) in the order of the rows, or None.

    Raises
    ------
    LikelihoodError : fewer than two categories, a code that is none, parts that do not fit.
    """

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        log_concave: bool,
        frequency_weights: Array | None = None,
    ) -> None:
        n_parts = len(family.parts)
        self.n_categories = n_parts + 1 if family.name == "nominal" else n_parts
        super().__init__(len(response.y), n_parts, random, log_concave, frequency_weights)
        self.family = family
        self._y = _codes(response, self.n_categories)

    @abstractmethod
    def probabilities(self, eta: Array) -> Array:
        """(C, m) probabilities of all categories at eta (D, m)."""

    @abstractmethod
    def _intercepts(self, shares: Array) -> Array:
        """(D,) parts that give these positive shares (C,); the mean of ordered ones is 0."""

    def start(self) -> Array:
        """(D,) parts of the observed shares (half a row added to each category)."""
        counts = np.bincount(self._y, weights=self._weights, minlength=self.n_categories) + 0.5
        return self._intercepts(counts / counts.sum())

    def mean(self, eta: Array, rows: slice = ALL) -> Array:
        """(C, m) probabilities at eta (D, m) of the rows of ``rows``."""
        return self.probabilities(predictors_of(eta, self._y[rows].size))

    def variance(self, eta: Array, rows: slice = ALL) -> Array:
        """(m,) variance of the codes 0..C-1 (ordered); NaN for nominal categories."""
        p = self.mean(eta, rows)
        if self.family.response == "nominal":
            return np.full(p.shape[1], np.nan)
        scores = np.arange(float(self.n_categories))
        centred = scores[:, None] - scores @ p
        return np.asarray(np.einsum("cm,cm->m", p, centred**2))

    def cumulative(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array]:
        """``P(Y < y)`` and ``P(Y <= y)`` (m,), nominal categories in the order of their codes."""
        y = self._y[rows]
        sums = np.zeros((self.n_categories + 1, y.size))
        np.cumsum(self.mean(eta, rows), axis=0, out=sums[1:])
        sums[-1] = 1.0
        np.minimum(sums, 1.0, out=sums)
        at = np.arange(y.size)
        return sums[y, at], sums[y + 1, at]

    def draw(self, eta: Array, rng: np.random.Generator, rows: slice = ALL) -> Array:
        """(m,) simulated codes."""
        sums = np.cumsum(self.mean(eta, rows), axis=0)
        picked = np.sum(sums <= rng.random(sums.shape[1]), axis=0)
        return np.asarray(np.minimum(picked, self.n_categories - 1), dtype=np.float64)


def _codes(response: Response, n_categories: int) -> NDArray[np.int64]:
    """Codes as whole numbers, checked."""
    if n_categories < 2 or n_categories != len(response.categories):
        raise LikelihoodError(
            "A family of categories must know the parts of at least two categories, as many as the "
            "response has.",
            f"parts for {n_categories}, and {len(response.categories)} in the response",
            "complete the family with with_categories(family, response.categories)",
        )
    y = response.y.astype(np.int64)
    bad = np.flatnonzero((y != response.y) | (y < 0) | (y >= n_categories))
    if bad.size:
        raise LikelihoodError(
            f"Codes of categories must be whole numbers from 0 to {n_categories - 1}.",
            f"{response.y[bad[0]]} in row {bad[0]} ({bad.size} such rows)",
            "read the response again, so that its categories are coded",
        )
    return np.ascontiguousarray(y)
