"""The frozen Design: a model laid over a table, as labelled arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.residual_layout import ResidualLayout
from multilevel.model.covariance.structures import FactorMap
from multilevel.model.specification import Model

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RandomScale:
    """The model for the log standard deviations of the random effects of one factor.

    Attributes
    ----------
    columns : (n, a) predictors, one value in each level.
    names : (a,) names.
    spread : (a,) standard deviations of the predictors over the levels.
    log_sd : (a, q) coefficients that are applied to the block's columns: they stand for
        ``z * exp(columns @ log_sd)``.
    """

    columns: Array
    names: tuple[str, ...]
    spread: Array
    log_sd: Array


@dataclass(frozen=True)
class RandomBlock:
    """All random terms on one grouping factor.

    Attributes
    ----------
    group : label of the factor, e.g. ``"school:class"``.
    codes : (n,) int32, level of each row, 0..J-1.
    levels : (J,) labels; tuples of labels joined by ``":"`` for interactions of factors.
    columns : (n, q) random-effect columns, Fortran order (constant columns included).
    names : q column names, ``"(Intercept)"`` for the constant.
    structure : the map theta -> Lambda over the q columns.
    scale : model for the log standard deviations of the effects; None: the same in all levels.
    """

    group: str
    codes: NDArray[np.int32]
    levels: NDArray[Any]
    columns: Array
    names: tuple[str, ...]
    structure: FactorMap
    scale: RandomScale | None = None

    @property
    def n_levels(self) -> int:
        """J."""
        return len(self.levels)


@dataclass(frozen=True)
class RowReport:
    """Which rows are analysed, and what each variable cost.

    Attributes
    ----------
    n_table : rows of the table.
    kept : (n,) positions of the analysed rows in the table.
    missing : ``{variable: rows in which it is missing}`` for variables that have any.
    """

    n_table: int
    kept: NDArray[np.intp]
    missing: dict[str, int] = field(default_factory=dict)

    @property
    def n_dropped(self) -> int:
        """Rows of the table that are not analysed."""
        return self.n_table - len(self.kept)


@dataclass(frozen=True)
class Design:
    """Arrays with labels.

    Attributes
    ----------
    model : the words this design was built from.
    y : (n,) response (offset not subtracted).
    X : (n, p) fixed-effect columns, Fortran order, full column rank; p may be 0.
    names : p column names; the constant is ``"(Intercept)"``.
    blocks : one per grouping factor, ordered by decreasing number of levels, a factor before the
        factor it is nested in where they tie.
    offset : (n,) or None.
    weights : (n,) precision weights, positive, or None.
    rows : which rows of the table these are.
    dropped_columns : ``{name: why}`` fixed-effect columns left out for rank deficiency.
    recipe : what was learnt from the data (encodings, centring means, levels): replays on new
        rows through ``design.replay``.
    residual : where each row stands in the residual covariance; None: independent residuals.
    """

    model: Model
    y: Array
    X: Array
    names: tuple[str, ...]
    blocks: tuple[RandomBlock, ...]
    offset: Array | None
    weights: Array | None
    rows: RowReport
    dropped_columns: dict[str, str]
    recipe: Any
    residual: ResidualLayout | None = None

    @property
    def n(self) -> int:
        """Number of analysed rows."""
        return len(self.y)


@dataclass(frozen=True)
class Response:
    """A response as numbers.

    Attributes
    ----------
    y : (n,) numbers; codes 0..C-1 for categories; lower bounds for intervals.
    trials : (n,) numbers of trials (binomial), or None for one each.
    upper : (n,) upper bounds of interval responses (equal to ``y`` where exact), or None.
    categories : labels of the categories in order, the reference or lowest first.
    sentence : what is modelled, in words (``"modelled: the probability of use = 'Y'"``).
    """

    y: Array
    trials: Array | None = None
    upper: Array | None = None
    categories: tuple[str, ...] = ()
    sentence: str = ""

    def take(self, order: NDArray[np.intp]) -> Response:
        """The rows at these positions."""
        return Response(
            np.ascontiguousarray(self.y[order]),
            None if self.trials is None else np.ascontiguousarray(self.trials[order]),
            None if self.upper is None else np.ascontiguousarray(self.upper[order]),
            self.categories,
            self.sentence,
        )
