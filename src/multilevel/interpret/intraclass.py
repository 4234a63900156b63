"""Intraclass correlations with intervals.

``proportion`` is the share of the total variance that lies between levels of one factor;
``correlation`` that of two rows of the same level, which also share every unit it is nested in.
The two differ for three levels and more. With random slopes both depend on the predictors, and
the mean over the analysed rows is given.

Sources: Snijders & Bosker 2012, chapters 3 and 4 (both conventions for three levels); Searle,
Casella & McCulloch 1992, Variance Components, section 3.6 (exact F interval, balanced one-way).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import f_quantile
from multilevel.interpret.variance import INTERCEPT, is_nested
from multilevel.interpret.variance_share import Evidence, share

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
DELTA = "delta method, logit scale"
EXACT = "exact F (balanced one-way)"
NONE = "none: a variance is on its boundary"


@dataclass(frozen=True)
class IccEstimate:
    """One intraclass correlation.

    Attributes
    ----------
    group : factor, or factors joined by `` & ``, whose levels two rows share.
    component : ``"proportion"`` of variance, or ``"correlation"`` of two rows.
    estimate, std_error, conf_low, conf_high : the ICC; NaN where no interval exists.
    interval : how the interval was made.
    sentence : in words.
    """

    group: str
    component: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    interval: str
    sentence: str


def check_level(conf_level: float) -> float:
    """Return a confidence level, or raise ``InferenceError`` unless 0 < level < 1."""
    if not 0.0 < conf_level < 1.0:
        raise InferenceError(
            "The confidence level must lie between 0 and 1.",
            f"conf_level={conf_level!r}",
            "write conf_level=0.95",
        )
    return float(conf_level)


def column_moments(design: Design) -> list[Array]:
    """Mean of ``z z'`` over the analysed rows, (q, q) per block."""
    return [np.asarray(b.columns.T @ b.columns) / len(b.columns) for b in design.blocks]


def group_shares(design: Design, fit: Fit) -> list[float]:
    """Share of each factor in the total variance, averaged over the analysed rows."""
    between = [
        float(np.trace(G @ M))
        for G, M in zip(fit.random_covariance, column_moments(design), strict=True)
    ]
    total = sum(between) + fit.sigma2
    return [value / total for value in between]


def has_slopes(design: Design) -> bool:
    """Whether any random effect is not an intercept."""
    return any(block.names != (INTERCEPT,) for block in design.blocks)


def icc_estimates(evidence: Evidence, conf_level: float = 0.95) -> tuple[IccEstimate, ...]:
    """ICC of each grouping factor under both conventions, and of rows that share crossed factors.

    Parameters
    ----------
    evidence : the fit. Residual variance is that of a row of weight 1.
    conf_level : between 0 and 1.

    Returns
    -------
    Records, per factor ``proportion`` then ``correlation``; then, for two crossed factors, the
    correlation of rows that share a level of both.

    Raises
    ------
    InferenceError : a model without random effects, or a confidence level outside (0, 1).
    """
    design = evidence.prepared.design
    check_level(conf_level)
    if not design.blocks:
        raise InferenceError(
            "An intraclass correlation needs random effects.",
            "a model without random terms",
            "add a term such as (1 | school)",
        )
    moments = column_moments(design)
    exact = _exact_interval(design, conf_level)
    above = [_above(design, t) for t in range(len(design.blocks))]
    out = []
    for t, block in enumerate(design.blocks):
        for component, members in (("proportion", [t]), ("correlation", [t, *above[t]])):
            out.append(
                _estimate(evidence, moments, block.group, component, members, conf_level, exact)
            )
    for t, one in enumerate(design.blocks):
        for s in range(t + 1, len(design.blocks)):
            if s in above[t] or t in above[s]:
                continue
            both = sorted({t, s, *above[t], *above[s]})
            label = f"{one.group} & {design.blocks[s].group}"
            out.append(_estimate(evidence, moments, label, "correlation", both, conf_level, None))
    return tuple(out)


def _above(design: Design, t: int) -> list[int]:
    """Positions of the factors in which factor ``t`` is nested."""
    mine = design.blocks[t]
    return [
        s
        for s, other in enumerate(design.blocks)
        if s != t and other.n_levels <= mine.n_levels and is_nested(mine, other)
    ]


def _estimate(
    evidence: Evidence,
    moments: list[Array],
    label: str,
    component: str,
    members: list[int],
    conf_level: float,
    exact: tuple[float, float] | None,
) -> IccEstimate:
    found = share(evidence, moments, members, conf_level)
    low, high, how = found.conf_low, found.conf_high, DELTA
    if exact is not None:
        low, high, how = *exact, EXACT
    elif np.isnan(low):
        how = NONE
    average = (
        "Averaged over the analysed rows (with random slopes it depends on the predictors), "
        if has_slopes(evidence.prepared.design)
        else ""
    )
    between = "" if np.isnan(low) else f" ({100 * conf_level:g}% interval {low:.3f} to {high:.3f})"
    if component == "proportion":
        text = (
            f"{100 * found.estimate:.1f}% of the variance lies between levels of {label}{between}."
        )
    else:
        text = (
            f"two rows that share {label.replace(' & ', ' and ')} correlate "
            f"{found.estimate:.3f} on average{between}."
        )
    sentence = average + text if average else text[0].upper() + text[1:]
    return IccEstimate(label, component, found.estimate, found.std_error, low, high, how, sentence)


def _exact_interval(design: Design, conf_level: float) -> tuple[float, float] | None:
    """Exact interval for a balanced one-way layout, or None for any other design.

    ``F = MSB / MSW``; the bounds are ``(F/F_q - 1) / (F/F_q + n - 1)``, cut off at 0 because the
    model has no negative variances.
    """
    if len(design.blocks) != 1 or has_slopes(design) or design.names != (INTERCEPT,):
        return None
    if design.weights is not None or design.offset is not None:
        return None
    block = design.blocks[0]
    counts = np.bincount(block.codes, minlength=block.n_levels)
    n, J = int(counts[0]), block.n_levels
    if n < 2 or np.any(counts != n):
        return None
    y = design.y - design.y.mean()
    means = np.bincount(block.codes, weights=y, minlength=J) / n
    between = n * float(means @ means) / (J - 1)
    within = float(np.sum((y - means[block.codes]) ** 2)) / (J * (n - 1))
    tail = (1.0 - conf_level) / 2.0
    ratio = between / within
    bounds = []
    for q in (1.0 - tail, tail):
        f = ratio / float(f_quantile(q, J - 1, J * (n - 1)))
        bounds.append(max((f - 1.0) / (f + n - 1.0), 0.0))
    return bounds[0], bounds[1]
