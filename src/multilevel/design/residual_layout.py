"""Where each row stands in the residual covariance matrix of its unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.recipe import LearntColumns
from multilevel.design.residual_time import TimeScale
from multilevel.model.covariance.correlation import CorrelationMap
from multilevel.model.residual import ResidualTerm
from multilevel.model.scale_power import POWER_OF_MEAN

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


def log_square(means: Array) -> Array:
    """``log(mean^2)``, finite at a mean of zero."""
    return np.asarray(2.0 * np.log(np.maximum(np.abs(means), np.finfo(np.float64).tiny)))


@dataclass(frozen=True)
class ResidualLayout:
    """Where each row stands in the residual covariance matrix of its unit.

    ``log variance = log sigma2 + variance_columns @ alpha - log weight``; correlations by
    ``maps``, one for each category of ``by``.

    Attributes
    ----------
    term : the structure; None where only the variance is modelled.
    order : (n,) analysed rows sorted by unit, then time.
    starts : (J + 1,) first sorted row of each unit.
    units : (J,) labels; row positions where every row is its own unit.
    codes : (n,) unit of each analysed row.
    position : (n, d) coordinates (whole steps for stepped structures, the occasion for ``un``
        and ``fa``), unsorted.
    maps : correlation structure of each category of ``by``.
    group_of : (J,) category of each unit.
    groups : labels of the categories of ``by`` ("" where there are none).
    variance_columns : (n, a), unsorted; ``variance_names`` their names.
    time : how values of time became coordinates (occasions, length of a step).
    weights : (n,) precision weights or None.
    sentence : the structure in words.
    cells : labels of the cells (category of ``by``, occasion) with a variance of their own; the
        first is the reference.
    scale_recipe : encoding of the scale columns, for new rows.
    random_scale : per coefficient of a log standard deviation of random effects its name and the
        spread of its predictor (the parameter is the coefficient times the spread).
    """

    term: ResidualTerm | None
    order: NDArray[np.intp]
    starts: IntArray
    units: NDArray[Any]
    codes: NDArray[np.int32]
    position: Array
    maps: tuple[CorrelationMap, ...]
    group_of: IntArray
    groups: tuple[str, ...]
    variance_columns: Array
    variance_names: tuple[str, ...]
    time: TimeScale
    weights: Array | None
    sentence: str
    cells: tuple[str, ...] = ("",)
    scale_recipe: LearntColumns | None = None
    random_scale: tuple[tuple[str, float], ...] = ()

    def take(self, rows: NDArray[np.intp], copies: NDArray[np.int64]) -> ResidualLayout:
        """The layout of rows drawn from these; a unit drawn twice counts as two.

        Parameters
        ----------
        rows : (m,) positions of the drawn rows, whole units at a time.
        copies : (m,) number of the draw that each comes from.
        """
        width = int(copies.max()) + 1
        found, first, codes = np.unique(
            self.codes[rows].astype(np.int64) * width + copies, return_index=True,
            return_inverse=True,
        )  # fmt: skip
        position = self.position[rows]
        order = np.arange(len(rows))
        if self.term is not None:
            order = np.lexsort((*position.T[::-1], codes))
        starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(found)))])
        return replace(
            self,
            order=order,
            starts=starts.astype(np.int64),
            units=np.arange(len(found)),
            codes=codes.astype(np.int32),
            position=position,
            group_of=self.group_of[self.codes[rows[first]]],
            variance_columns=self.variance_columns[rows],
            weights=None if self.weights is None else self.weights[rows],
        )

    @property
    def has_power_of_mean(self) -> bool:
        """Whether the variance is a power of the mean (the last of the variance columns)."""
        return self.variance_names[-1:] == (POWER_OF_MEAN,)

    def with_means(self, means: Array) -> ResidualLayout:
        """The layout at held means (n,) of the analysed rows: the column is ``log(mean^2)``."""
        columns = self.variance_columns.copy()
        columns[:, -1] = log_square(means)
        return replace(self, variance_columns=columns)

    @property
    def has_correlation(self) -> bool:
        """Whether rows of one unit may be correlated."""
        return any(m.n_parameters for m in self.maps)

    @property
    def n_parameters(self) -> int:
        """Variance and correlation parameters, without sigma2; those of random scales too."""
        own = len(self.variance_names) + sum(m.n_parameters for m in self.maps)
        return own + len(self.random_scale)
