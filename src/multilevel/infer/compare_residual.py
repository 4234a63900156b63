"""Whether one residual structure is a special case of another, at an interior point.

Variances: the columns of the log variance must lie in the span of the larger model's. Correlations:
by the table below, for the same units and time. Left out are pairs where the smaller structure
lies on the boundary of the larger or leaves it unidentified (independence in ``exp``, ``gau``,
``sph``, ``car1``, ``arma11`` or ``fa``): their likelihood ratio is not chi-square.
Source: Wolfinger 1993 (nesting of structures); Stram & Lee 1994 (why the boundary matters).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.structured import prepare_structured, solve_structured
from multilevel.infer.compare_nesting import column_space_within, same_partition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.design.records import Design
    from multilevel.design.residual_layout import ResidualLayout
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
Relation = Literal["same", "nested", "other"]

_CORRELATION = {
    "ind": "ind", "diag": "ind", "cs": "cs", "csh": "cs", "ar1": "ar1", "arh1": "ar1",
    "arma11": "arma11", "toep": "toep", "toeph": "toep", "un": "un", "fa": "fa", "car1": "car1",
    "exp": "exp", "gau": "gau", "sph": "sph",
}  # fmt: skip
#: Correlation structures of which each is a regular special case.
_WITHIN: dict[str, tuple[str, ...]] = {
    "ind": ("cs", "ar1", "toep", "un"),
    "cs": ("toep", "un"),
    "ar1": ("arma11", "toep", "un"),
    "arma11": ("toep", "un"),
    "toep": ("un",),
    "fa": ("un",),
}


def residual_relation(small: Design, large: Design) -> Relation:
    """How the residual structure of ``small`` lies in that of ``large`` (same rows)."""
    one, two = small.residual, large.residual
    if one is None and two is None:
        return "same"
    scales = _scale_relation(small, large)
    rest = _residual_relation(small, large)
    if "other" in (scales, rest):
        return "other"
    return "nested" if "nested" in (scales, rest) else "same"


def _scale_relation(small: Design, large: Design) -> Relation:
    """How the models for standard deviations of random effects lie in each other.

    A factor that is new in the larger model must have none: its coefficients do not exist where
    its variance is zero.
    """
    found: Relation = "same"
    for block in large.blocks:
        mine = [b for b in small.blocks if same_partition(b.codes, block.codes)]
        inner, outer = (
            np.ones((large.n, 1)) if b is None or b.scale is None
            else np.hstack([np.ones((large.n, 1)), b.scale.columns])
            for b in (mine[0] if mine else None, block)
        )  # fmt: skip
        if not mine and block.scale is not None:
            return "other"
        if not column_space_within(inner, outer):
            return "other"
        # an effect that is new beside scaled ones would bring coefficients that do not exist
        if mine and block.scale is not None and len(mine[0].names) != len(block.names):
            return "other"
        if inner.shape[1] < outer.shape[1]:
            found = "nested"
    return found


def _residual_relation(small: Design, large: Design) -> Relation:
    """The same for the residual covariance."""
    one, two = small.residual, large.residual
    columns = [_columns(small), _columns(large)]
    if not column_space_within(columns[0], columns[1]):
        return "other"
    same_variance = columns[0].shape[1] == columns[1].shape[1]
    correlation = _correlation_relation(one, two)
    if correlation == "same" and not same_variance:
        return "nested"
    return correlation


def _columns(design: Design) -> Array:
    """Columns of the log variance with its constant."""
    constant = np.ones((design.n, 1))
    if design.residual is None:
        return constant
    return np.hstack([constant, design.residual.variance_columns])


def _kind(layout: ResidualLayout | None) -> str:
    if layout is None or layout.term is None:
        return "ind"
    return _CORRELATION[layout.term.structure]


def _correlation_relation(one: ResidualLayout | None, two: ResidualLayout | None) -> Relation:
    a, b = _kind(one), _kind(two)
    if a == "ind":
        return "same" if b == "ind" else ("nested" if b in _WITHIN["ind"] else "other")
    if b == "ind" or one is None or two is None or one.term is None or two.term is None:
        return "other"
    if not np.array_equal(one.codes, two.codes):
        return "other"
    if a not in ("cs",) and one.term.coordinates != two.term.coordinates:
        return "other"
    if one.term.by not in (None, two.term.by):
        return "other"
    wider = one.term.by != two.term.by
    if a == b and a in ("toep", "fa"):
        first, second = one.term.order, two.term.order
        if first == second:
            return "nested" if wider else "same"
        banded = a == "toep" and first > 0 and (second == 0 or second > first)
        return "nested" if banded else "other"
    if a == b:
        return "nested" if wider else "same"
    if b == "toep" and two.term.order:
        return "other"
    return "nested" if b in _WITHIN.get(a, ()) else "other"


def refuse_row_refits(designs: Sequence[Design]) -> None:
    """Refuse to refit models with structured residuals on other rows.

    Raises
    ------
    InferenceError : a residual structure, whose units and times belong to its own rows.
    """
    if any(design.residual is not None for design in designs):
        raise InferenceError(
            "Models with structured residuals are compared on the rows that they were fitted to.",
            "models of other rows, one with residual= or scale=",
            "drop the rows that one of them lacks from the table, and fit again",
        )


def structured_by_ml(design: Design, fit: Fit) -> tuple[Prepared, Fit]:
    """The same model by ML, from the estimates by REML: the whitened problem and the fit."""
    phi = np.zeros(0) if fit.residual is None else fit.residual.phi
    again = replace(design, model=replace(design.model, method="ml"))
    prepared = prepare_structured(again, method="ml")
    return solve_structured(prepared, psi_start=np.concatenate([fit.theta, phi]))
