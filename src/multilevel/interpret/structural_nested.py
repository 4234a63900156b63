"""Slopes and advice at levels above the second.

The slope at a level between the part of x and the part of y there is the *between* slope of that
level; less the slope one level below it is the *contextual* one (Raudenbush & Bryk 2002, chapters 5
and 8). Where the observed x stands in the product with a random slope, or a higher-level mean
stands beside the variable it is the mean of, the parameter itself is contextual.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural import StructuralGroup
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.structural import StructuralCovariance, z_tests
from multilevel.interpret.structural_advice import anova_icc
from multilevel.interpret.structural_slopes import LevelTwoSlope, SlopeKind, slope_dual
from multilevel.model.structural.records import Parameter, StructuralModel

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
_MIN_ICC, _MAX_P = 0.02, 0.01


def higher_level_slopes(
    problem: StructuralProblem, fit: StructuralFit, covariance: StructuralCovariance
) -> tuple[LevelTwoSlope, ...]:
    """Every slope above the second level with a partner below."""
    out = []
    model = fit.model
    for g, data in enumerate(problem.design.groups):
        for k, high in enumerate(model.higher):
            for p in model.block(high.name, g):
                if p.op != "~" or p.lhs not in high.parts:
                    continue
                found = _partner(model, data, g, k, p)
                if found is not None:
                    out.append(_slope(fit, covariance, p, *found))
    return tuple(out)


def _partner(
    model: StructuralModel, data: StructuralGroup, g: int, k: int, p: Parameter
) -> tuple[str, Parameter | None, str, SlopeKind, str] | None:
    """Predictor, parameter and level of the slope below, the kind of ``p``, and why."""
    lower = model.levels[k + 1]
    title = model.level_name(lower)
    for s in model.random_slopes:
        if (s.outcome, s.predictor) == (p.lhs, p.rhs):
            mean = [
                r
                for level in model.levels[1:]
                for r in model.block(level, g)
                if (r.lhs, r.op) == (s.name, "~1")
            ][-1]
            why = f"{p.rhs} stands as observed in the product with its random slope {s.name}"
            return p.rhs, mean, "within", "contextual", why
    below = {(r.lhs, r.rhs): r for r in model.block(lower, g) if r.op == "~"}
    if p.rhs in model.higher[k].parts:
        why = f"{p.rhs} is split into latent parts"
        return p.rhs, below.get((p.lhs, p.rhs)), title, "between", why
    for (lhs, rhs), own in below.items():
        if lhs == p.lhs and _is_mean(model, data, k, rhs, p.rhs):
            why = f"{rhs} stands at {title} as observed and {p.rhs} is its mean"
            return rhs, own, title, "contextual", why
    return None


def _own_values(model: StructuralModel, data: StructuralGroup, k: int, name: str) -> Array | None:
    """Values of an observed variable of the level below ``model.higher[k]`` alone."""
    names = model.between_only if k == 0 else model.higher[k - 1].only
    table = data.z if k == 0 else data.upper[k - 1].z
    return table[:, names.index(name)] if name in names else None


def _is_mean(model: StructuralModel, data: StructuralGroup, k: int, x: str, z: str) -> bool:
    """Whether z is, up to a constant, the mean of x by unit of ``model.higher[k]``."""
    values = _own_values(model, data, k, x)
    if values is None or z not in model.higher[k].only:
        return False
    column = data.upper[k].z[:, model.higher[k].only.index(z)]
    means = _means(values, data.upper[k].codes, len(column))
    both = ~np.isnan(means) & ~np.isnan(column)
    gap = means[both] - column[both]
    return bool(np.any(both)) and float(np.ptp(gap)) <= 1e-6 * float(np.ptp(column[both]))


def _means(values: Array, codes: Codes, n_units: int) -> Array:
    known = ~np.isnan(values)
    n = np.bincount(codes[known], minlength=n_units)
    total = np.bincount(codes[known], values[known], minlength=n_units)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _slope(
    fit: StructuralFit,
    covariance: StructuralCovariance,
    p: Parameter,
    partner: str,
    own: Parameter | None,
    below: str,
    kind: SlopeKind,
    why: str,
) -> LevelTwoSlope:
    w, dw = slope_dual(fit, own)
    b, db = slope_dual(fit, p)
    is_between = kind == "between"
    values = np.array([w, b, b - w] if is_between else [w, w + b, b])
    rows = np.stack([dw, db if is_between else dw + db, db - dw if is_between else db])
    tests = z_tests(values, rows, covariance, 0.95)
    e, chance = tests.std_error, tests.p_value
    other, at = ("contextual", 2) if is_between else ("between", 1)
    p_other = float(chance[at])
    shown = "< .001" if p_other < 0.001 else f"= {p_other:.3f}"
    p_text = f", p {shown}" if np.isfinite(p_other) else ""
    error = f"SE {e[at]:.3g}" if np.isfinite(e[at]) else "without SE"
    number = fit.model.levels.index(p.level) + 1
    sentence = (
        f"The slope of {p.rhs} for {p.lhs} at level {number} ({p.level}), {b:.4g}, is {kind},"
        f" because {why}; the {other} slope is {values[at]:.4g} ({error}{p_text}), with a"
        f" slope of {w:.4g} {'within' if below == 'within' else f'at {below}'}."
    )
    return LevelTwoSlope(
        group=fit.model.groups[p.group],
        outcome=p.lhs,
        predictor=p.rhs,
        within_predictor=partner,
        kind=kind,
        within=w,
        within_std_error=float(e[0]),
        between=float(values[1]),
        between_std_error=float(e[1]),
        contextual=float(values[2]),
        contextual_std_error=float(e[2]),
        p_contextual=float(chance[2]),
        sentence=sentence,
        level=p.level,
    )


def nested_advice(problem: StructuralProblem, fit: StructuralFit) -> tuple[str, ...]:
    """One sentence for each variable without a part at a higher level at which it differs."""
    model = fit.model
    out = []
    for data in problem.design.groups:
        where = f" (group {data.label})" if data.label else ""
        unit, n_units = data.codes, len(data.z)
        values = {n: data.y[:, k] for k, n in enumerate(model.observed("within"))}
        at = "within"
        for k, high in enumerate(model.higher):
            own = model.observed(model.levels[k + 1])
            means = {n: _means(values[n], unit, n_units) for n in own if n in values}
            values = means | {
                n: column for n in own if (column := _own_values(model, data, k, n)) is not None
            }
            at = model.level_name(model.levels[k + 1])
            unit, n_units = data.upper[k].codes, len(data.upper[k].z)
            for name in own:
                if name in high.parts or name not in values:
                    continue
                icc, p = anova_icc(values[name], unit)
                covered = any(_is_mean(model, data, k, name, z) for z in high.only)
                if icc > _MIN_ICC and p < _MAX_P and not covered:
                    out.append(
                        f"{100.0 * icc:.0f}% of the variance of {name}{where} between {at} lies"
                        f" between {high.name}, but {name} is not named at {high.name}: name it"
                        " there too, or its slopes mix levels and standard errors are too small."
                    )
    return tuple(out)
