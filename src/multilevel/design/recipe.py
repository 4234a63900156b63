"""What a design learnt from its data, kept so that it replays on new rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.model.formula.compile import Compiled
from multilevel.model.formula.names import CentringCall
from multilevel.model.specification import Membership

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LearntColumns:
    """The encoding of one sum of terms.

    Attributes
    ----------
    compiled : the sum over plain identifiers.
    spec : formulaic's learnt ``ModelSpec`` (levels, knots, polynomial coefficients).
    names : column names, in order.
    """

    compiled: Compiled
    spec: Any
    names: tuple[str, ...]


@dataclass(frozen=True)
class LearntCentring:
    """One centring call and the means that it learnt.

    Attributes
    ----------
    call : the call as written: kind, variable, factor, constant, rows.
    n_rows : rows that the means were computed from.
    n_groups : groups that they were computed for; 0 for ``center`` and ``scale``.
    levels : (J,) labels of the groups.
    means : (J,) means of the groups, in units of the variable.
    location : grand mean (or the constant) that ``center`` and ``scale`` subtract.
    spread : standard deviation (divisor n - 1) that ``scale`` divides by, else 1.
    """

    call: CentringCall
    n_rows: int
    n_groups: int
    levels: NDArray[Any]
    means: Array
    location: float
    spread: float

    @property
    def sentence(self) -> str:
        """The call in one plain sentence, for reports."""
        which = "analysed rows" if self.call.rows == "analysis" else "all rows that have both"
        if self.call.kind in ("within", "between"):
            minus = f", minus {self.call.at:g}" if self.call.at else ""
            return (
                f"{self.call.text}: means of {self.call.shown} by {self.call.group}{minus}, "
                f"from {self.n_rows} rows ({which}) in {self.n_groups} groups."
            )
        if self.call.at is not None:
            return f"{self.call.text}: {self.call.shown} minus the constant {self.call.at:g}."
        divided = f", divided by its standard deviation {self.spread:.6g}" * (
            self.call.kind == "scale"
        )
        return (
            f"{self.call.text}: {self.call.shown} minus its mean {self.location:.6g}{divided}, "
            f"from {self.n_rows} rows."
        )


@dataclass(frozen=True)
class LearntScale:
    """Predictors of the log standard deviations of one factor: columns ``keep``, coefficients."""

    columns: LearntColumns
    keep: tuple[int, ...]
    log_sd: Array


@dataclass(frozen=True)
class LearntBy:
    """A column whose groups have a covariance matrix of their own, and its values."""

    name: str
    levels: NDArray[Any]


@dataclass(frozen=True)
class LearntBlock:
    """One grouping factor: its columns and its levels, and what scales its effects."""

    factors: tuple[str, ...]
    levels: NDArray[Any]
    terms: tuple[LearntColumns, ...]
    scale: LearntScale | None = None
    by: tuple[LearntBy | None, ...] = ()
    membership: Membership | None = None  # several levels per row


@dataclass(frozen=True)
class Recipe:
    """Everything that replays on new rows.

    Attributes
    ----------
    response : the compiled response.
    fixed : encoding of the fixed effects, before columns were dropped.
    kept_columns : positions of the kept columns among ``fixed.names``.
    blocks : per random-effect block, in the order of ``Design.blocks``.
    offsets : compiled offsets.
    centring : the learnt centring calls, each with a ``sentence`` for reports.
    kinds : ``{variable: "number" or "category"}`` of every variable in a formula part.
    levels : ``{variable: order of categories}`` that the caller asked for.
    """

    response: Compiled
    fixed: LearntColumns
    kept_columns: tuple[int, ...]
    blocks: tuple[LearntBlock, ...]
    offsets: tuple[Compiled, ...]
    centring: tuple[LearntCentring, ...]
    kinds: dict[str, str]
    levels: dict[str, Sequence[Any]]
