"""Start values of mixed structural models: variances of moderate size, no slopes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_mixed import MixedDesign
from multilevel.likelihood.generalized.families.make import make_rows
from multilevel.likelihood.structural.mixed_objective import extra_names
from multilevel.model.structural.records import Parameter, RandomSlope

Array = NDArray[np.float64]
_SHARES = {"within": 0.7, "latent": 0.4, "between": 0.2}


def mixed_start(design: MixedDesign) -> Array:
    """(q,) where the search begins; values that the user asked for are kept."""
    model = design.model
    extras = extra_names(design)
    theta = np.zeros(len(model.free_names) + len(extras))
    sizes, means = _sizes(design)
    for p, home in zip(model.parameters, model.homes, strict=True):
        if p.is_free:
            own = _value(design, p, home, sizes, means)
            theta[p.free] = p.start if not math.isnan(p.start) else own
    for i, (k, part) in enumerate(extras):
        kind = next(kind for kind in design.kinds if kind.outcome == k)
        names = [p.name for p in design.families[k].parts]
        rows = make_rows(design.families[k], kind.response, None, ())
        theta[len(model.free_names) + i] = rows.start()[names.index(part)]
    return theta


def _sizes(design: MixedDesign) -> tuple[dict[str, float], dict[str, float]]:
    """Variance and mean of every observed variable, on the scale of its linear predictor."""
    variance, mean = {}, {}
    for k, name in enumerate(design.outcomes):
        values = design.values[:, k]
        if design.model.is_gaussian(name):
            variance[name], mean[name] = float(np.nanvar(values)), float(np.nanmean(values))
            continue
        kind = next(kind for kind in design.kinds if kind.outcome == k)
        variance[name] = 1.5
        mean[name] = float(make_rows(design.families[k], kind.response, None, ()).start()[0])
    for m, factor in zip(design.model.models, design.factors, strict=False):
        for k, name in enumerate(m.between_only):
            variance[name] = float(factor.z[:, k].var())
            mean[name] = float(factor.z[:, k].mean())
    for s in design.model.slopes:
        variance[s.name] = slope_size(design, s, variance[s.outcome])
    return variance, mean


def slope_size(design: MixedDesign, slope: RandomSlope, outcome: float) -> float:
    """The variance of a slope that would carry all of an outcome with this variance."""
    if slope.predictor in design.inputs:
        values = design.given[:, design.inputs.index(slope.predictor)]
    else:
        values = design.values[:, design.outcomes.index(slope.predictor)]
    return outcome / max(float(np.nanvar(values)), 1e-300)


def _value(
    design: MixedDesign, p: Parameter, home: str, sizes: dict[str, float], means: dict[str, float]
) -> float:
    """Start value of one parameter."""
    model = design.model
    if p.op == "~1":
        return means.get(p.lhs, 0.0)
    if p.op == "~":
        return 0.0
    block = [q for q, h in zip(model.parameters, model.homes, strict=True) if h == home]
    level_2 = {n for m in model.models for n in m.between_only}
    if p.op == "=~":
        first = next(q.rhs for q in block if q.op == "=~" and q.lhs == p.lhs)
        has_marker = any(
            q.op == "=~" and q.lhs == p.lhs and not q.is_free and q.value != 0.0 for q in block
        )
        ratio = math.sqrt(sizes.get(p.rhs, 1.0) / (sizes.get(first, 1.0) if has_marker else 1.0))
        shared = _SHARES["latent" if home == "within" else "between"]
        share = 1.0 if has_marker else math.sqrt(shared)
        return ratio * share
    if not p.is_variance:
        return 0.0
    if p.lhs in sizes:
        if p.lhs in level_2:
            return 0.8 * sizes[p.lhs]
        is_measured = any(q.op == "=~" and q.rhs == p.lhs for q in block)
        share = _SHARES["within" if home == "within" else "between"]
        return share * sizes[p.lhs] * (0.5 if is_measured and home != "within" else 1.0)
    markers = [q.rhs for q in block if q.op == "=~" and q.lhs == p.lhs]
    size = sizes.get(markers[0], 1.0) if markers else 1.0
    return size * _SHARES["latent" if home == "within" else "between"]


def mixed_pattern(design: MixedDesign, theta: Array) -> Array:
    """``theta`` with slopes and means moved off zero, so that what can occur does."""
    out = theta.copy()
    for p in design.model.parameters:
        if p.is_free and p.op in ("~", "~1", "=~"):
            out[p.free] += 0.05 * (1.0 + math.sin(1.0 + p.free))
        elif p.is_free and p.op == "~~" and not p.is_variance:
            out[p.free] += 1e-3 * math.sin(2.0 + p.free)
    return out
