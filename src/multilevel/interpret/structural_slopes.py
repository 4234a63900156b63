"""Is a level-2 slope between or contextual? Which one was estimated, and the other beside it.

A predictor on both levels is split into latent parts, so that its level-2 slope is the *between*
slope. Where the observed predictor itself stands at level 1, and its cluster mean at level 2, the
level-2 slope is *contextual*. Always ``contextual = between - within`` (Raudenbush & Bryk 2002,
chapter 5; Hoffman 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural import StructuralGroup
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.structural import StructuralCovariance, z_tests
from multilevel.model.structural.records import Parameter, StructuralModel

Array = NDArray[np.float64]
SlopeKind = Literal["between", "contextual"]


@dataclass(frozen=True)
class LevelTwoSlope:
    """One level-2 slope with its within counterpart.

    Attributes
    ----------
    group, outcome, predictor, within_predictor : names.
    kind : which of the two the model's own parameter is.
    within, between, contextual : the three slopes; each with ``*_std_error`` (NaN if fixed).
    p_contextual : two-sided p of the contextual slope being zero.
    sentence : the same in words.
    level : where the slope stands; above the second level, ``within`` is the slope one level below.
    """

    group: str
    outcome: str
    predictor: str
    within_predictor: str
    kind: SlopeKind
    within: float
    within_std_error: float
    between: float
    between_std_error: float
    contextual: float
    contextual_std_error: float
    p_contextual: float
    sentence: str
    level: str = "between"


def level_two_slopes(
    problem: StructuralProblem, fit: StructuralFit, covariance: StructuralCovariance
) -> tuple[LevelTwoSlope, ...]:
    """Every level-2 slope of a predictor that has a slope at level 1, or could have one."""
    out = []
    for g, data in enumerate(problem.design.groups):
        within = {(p.lhs, p.rhs): p for p in fit.model.block("within", g) if p.op == "~"}
        for p in fit.model.block("between", g):
            if p.op != "~" or p.lhs not in fit.model.both:
                continue
            varying = _random_partner(fit, p, g, data)
            if varying is not None:
                out.append(_slope(fit, covariance, p, varying[1], varying[0], False, varying[2]))
                continue
            if p.rhs in fit.model.both:
                partner, kind = p.rhs, "between"
            else:
                xs = [x for y, x in within if y == p.lhs and x in fit.model.within_only]
                means = [x for x in xs if is_cluster_mean(fit.model, data, x, p.rhs)]
                if not means:
                    continue
                partner, kind = means[0], "contextual"
            own = within.get((p.lhs, partner))
            is_between = kind == "between"
            out.append(_slope(fit, covariance, p, own, partner, is_between))
    return tuple(out)


def _random_partner(
    fit: StructuralFit, p: Parameter, g: int, data: StructuralGroup
) -> tuple[str, Parameter, str] | None:
    """Predictor, mean and name of the random slope of which ``p`` is the level-2 partner."""
    for s in fit.model.random_slopes:
        is_partner = p.rhs == s.predictor or is_cluster_mean(fit.model, data, s.predictor, p.rhs)
        if s.outcome == p.lhs and is_partner:
            mean = next(r for r in fit.model.block("between", g) if (r.lhs, r.op) == (s.name, "~1"))
            return s.predictor, mean, s.name
    return None


def is_cluster_mean(model: StructuralModel, data: StructuralGroup, x: str, z: str) -> bool:
    """Whether column z is, up to a constant, the cluster mean of column x."""
    if z not in model.between_only:
        return False
    values = data.y[:, model.observed("within").index(x)]
    known = ~np.isnan(values)
    J = len(data.z)
    n = np.bincount(data.codes[known], minlength=J)
    total = np.bincount(data.codes[known], values[known], minlength=J)
    column = data.z[:, model.between_only.index(z)]
    both = (n > 0) & ~np.isnan(column)
    gap = total[both] / n[both] - column[both]
    spread = float(np.ptp(column[both]))
    return bool(np.any(both)) and float(np.ptp(gap)) <= 1e-6 * spread


def slope_dual(fit: StructuralFit, p: Parameter | None) -> tuple[float, Array]:
    """Value and (q,) derivative of a slope; zero where there is none."""
    slope = np.zeros(fit.n_parameters)
    if p is None:
        return 0.0, slope
    if not p.is_free:
        return p.value, slope
    slope[p.free] = 1.0
    return float(fit.theta[p.free]), slope


def _slope(
    fit: StructuralFit,
    covariance: StructuralCovariance,
    p: Parameter,
    own: Parameter | None,
    partner: str,
    is_between: bool,
    random: str = "",
) -> LevelTwoSlope:
    w, dw = slope_dual(fit, own)
    b, db = slope_dual(fit, p)
    between, contextual = (b, b - w) if is_between else (w + b, b)
    rows = np.stack([dw, db if is_between else dw + db, db - dw if is_between else db])
    tests = z_tests(np.array([w, between, contextual]), rows, covariance, 0.95)
    e = tests.std_error
    other, size = ("contextual", contextual) if is_between else ("between", between)
    error, ratio = float(e[2 if is_between else 1]), float(tests.p_value[2 if is_between else 1])
    why = (
        f"{p.rhs} is split into latent within and between parts"
        if is_between
        else f"{partner} stands at level 1 as observed and {p.rhs} is its cluster mean"
    )
    if random:
        moved = any(r.op == "~" and r.lhs == random for r in fit.model.block("between", p.group))
        why = f"{partner} stands as observed in the product with its random slope {random}"
        own_x = [t.predictor for t in fit.model.random_slopes if t.outcome == p.rhs]
        if own_x:
            why += f", and the between part of {p.rhs} is its value where {own_x[0]} is 0"
        why += f"; the within slope is that where the predictors of {random} are 0" * moved
    p_text = f", p {'< .001' if ratio < 0.001 else f'= {ratio:.3f}'}" if np.isfinite(ratio) else ""
    kind: SlopeKind = "between" if is_between else "contextual"
    sentence = (
        f"The level-2 slope of {p.rhs} for {p.lhs}, {b:.4g}, is {kind}, because {why}; the"
        f" {other} slope is {size:.4g} (SE {error:.3g}{p_text}), with a within slope of {w:.4g}."
    )
    return LevelTwoSlope(
        group=fit.model.groups[p.group],
        outcome=p.lhs,
        predictor=p.rhs,
        within_predictor=partner,
        kind=kind,
        within=w,
        within_std_error=float(e[0]),
        between=between,
        between_std_error=float(e[1]),
        contextual=contextual,
        contextual_std_error=float(e[2]),
        p_contextual=float(tests.p_value[2]),
        sentence=sentence,
        level=fit.model.level_name("between"),
    )
