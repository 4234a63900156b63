"""Outcome variance and ICC as functions of a predictor with a random slope.

``Var(y | x) = z' G z + sigma2`` with ``z = (1, x)``: a parabola in x with its minimum at
``-tau_01 / tau_11``; two rows of one cluster with the values x1 and x2 have the covariance ``z1' G
z2``. Sources: Snijders & Bosker 2012, section 5.1; Goldstein, Browne & Rasbash 2002
(Understanding Statistics 1:223) for variance partition coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.interpret.intraclass import check_level, column_moments
from multilevel.interpret.variance import INTERCEPT
from multilevel.interpret.variance_share import Evidence, share

if TYPE_CHECKING:
    from multilevel.design.records import Design

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VarianceAt:
    """Variance at one value of the predictor.

    Attributes
    ----------
    value : of the predictor.
    between : variance between levels of the factor there.
    total : variance of the outcome there.
    estimate : the ICC, ``between / total``: correlation of two rows with this value.
    std_error, conf_low, conf_high : of the ICC, by the delta method on the logit scale.
    """

    value: float
    between: float
    total: float
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float


@dataclass(frozen=True)
class VarianceFunction:
    """Variance and ICC along a predictor.

    Attributes
    ----------
    group, term : grouping factor and the predictor with the random slope.
    minimum : value of the predictor with the smallest variance, ``-tau_01 / tau_11``.
    minimum_total : variance of the outcome there.
    rows : one record per value.
    sentence : in words.
    """

    group: str
    term: str
    minimum: float
    minimum_total: float
    rows: tuple[VarianceAt, ...]
    sentence: str


def variance_function(
    evidence: Evidence,
    term: str,
    values: Sequence[float] | None = None,
    group: str | None = None,
    conf_level: float = 0.95,
) -> VarianceFunction:
    """Outcome variance and ICC at values of a predictor with a random slope.

    Parameters
    ----------
    evidence : the fit.
    term : a random slope by name, e.g. ``"ses"``. Other random slopes of the same factor are
        held at a predictor value of 0; other factors contribute their mean over the rows.
    values : where; default five values from the smallest to the largest in the data.
    group : the factor, where the slope varies over several.
    conf_level : of the interval of the ICC.

    Raises
    ------
    InferenceError : a term without a random slope, or one that varies over several factors.
    """
    design = evidence.prepared.design
    check_level(conf_level)
    t, a = _find(design, term, group)
    block = design.blocks[t]
    z = block.columns[:, a]
    low, high = float(z.min()), float(z.max())
    at = np.linspace(low, high, 5) if values is None else np.asarray(values, dtype=np.float64)
    G, sigma2 = evidence.fit.random_covariance[t], evidence.fit.sigma2
    moments = column_moments(design)
    base = np.asarray([1.0 if name == INTERCEPT else 0.0 for name in block.names])
    out = []
    for value in np.atleast_1d(at).tolist():
        point = base.copy()
        point[a] = value
        moments[t] = np.outer(point, point)
        found = share(evidence, moments, [t], conf_level)
        v, _ = evidence.relative_variances(moments)
        total = sigma2 * (1.0 + float(v.sum()))
        out.append(
            VarianceAt(
                value, float(point @ G @ point), total,
                found.estimate, found.std_error, found.conf_low, found.conf_high,
            )
        )  # fmt: skip
    cross = float(G[a] @ base)
    least = -cross / float(G[a, a]) if G[a, a] > 0 else float("nan")
    point = base.copy()
    point[a] = least
    moments[t] = np.outer(point, point)
    v, _ = evidence.relative_variances(moments)
    smallest = sigma2 * (1.0 + float(v.sum()))
    if np.isnan(least):
        sentence = (
            f"The slope of {term} does not vary over {block.group}: the variance is constant."
        )
    else:
        inside = "inside" if low <= least <= high else "outside"
        sentence = (
            f"The variance of the outcome depends on {term}: it is smallest, {smallest:.3f}, at "
            f"{term} = {least:.3f} ({inside} the observed range {low:.3f} to {high:.3f}), and "
            f"grows to both sides."
        )
    return VarianceFunction(block.group, term, least, smallest, tuple(out), sentence)


def _find(design: Design, term: str, group: str | None) -> tuple[int, int]:
    """Position of the block and of the column of a random slope."""
    hits = [
        (t, block.names.index(term))
        for t, block in enumerate(design.blocks)
        if term in block.names and term != INTERCEPT and group in (None, block.group)
    ]
    if len(hits) == 1:
        return hits[0]
    slopes = [f"{n} over {b.group}" for b in design.blocks for n in b.names if n != INTERCEPT]
    if hits:
        raise InferenceError(
            "The grouping factor must be named where a slope varies over several.",
            f"{term} varies over " + " and ".join(design.blocks[t].group for t, _ in hits),
            f"add group={design.blocks[hits[0][0]].group!r}",
        )
    where = f"{term!r}" + (f" over {group}" if group else "")
    raise InferenceError(
        "The variance depends on predictors with a random slope only.",
        f"{where}; random slopes of this model: " + (", ".join(slopes) or "none"),
        "name one of these",
    )
