"""What mixed structural models mean: latent-response scales, explained variance, indirect effects.

Within clusters the variance of an outcome that is not Gaussian is that of its latent response: the
linear predictor and the level-1 variance of the link (pi^2/3 logit, 1 probit, pi^2/6 cloglog;
McKelvey & Zavoina 1975). Counts have none. Between clusters all variables are linear predictors, so
nothing needs an assumption there. A binary or count variable that predicts others within clusters
does so in its own units, so what depends on it has no variance on one scale; nor has an outcome
with a random slope, whose variance depends on the predictor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.structural_mixed import MixedFit
from multilevel.infer.structural_mixed import table_values
from multilevel.likelihood.structural.mixed_map import MixedMap
from multilevel.model.structural.mixed import MixedModel
from multilevel.model.structural.records import Parameter

Array = NDArray[np.float64]
_STEP = 1e-30


@dataclass(frozen=True)
class LatentResponseVariance:
    """R-squared of one variable at one level; NaN where there is no scale for it."""

    level: str
    outcome: str
    variance: float
    residual_variance: float
    r_squared: float
    scale: str


@dataclass(frozen=True)
class _Moments:
    """Names, covariance and residual covariance of one level."""

    names: tuple[str, ...]
    cov: NDArray[Any]
    S: NDArray[Any]


def _moments(mapping: MixedMap, theta: NDArray[Any]) -> dict[str, _Moments]:
    """All levels, the latent responses of outcomes within."""
    design = mapping.design
    model = design.model
    at = mapping.within.implied(theta)
    S = at.S.copy()
    for k, name in enumerate(design.outcomes):
        if not model.is_gaussian(name):
            own = design.families[k].level_one_variance
            i = mapping.within.names.index(name)
            S[i, i] = np.nan if own is None else own
    unscaled = set(_without_scale(mapping))
    cov = at.T @ np.where(np.isnan(S), 0.0, S) @ at.T.T
    for i, name in enumerate(mapping.within.names):
        if name in unscaled:
            cov[i, :] = cov[:, i] = np.nan
    out = {"within": _Moments(mapping.within.names, cov, S)}
    labels = ("between",) if len(mapping.between) == 1 else model.clusters
    for label, level in zip(labels, mapping.between, strict=False):
        implied = level.implied(theta)
        out[label] = _Moments(level.names, implied.full_cov, implied.S)
    return out


def _without_scale(mapping: MixedMap) -> list[str]:
    """Within-level variables without a variance: counts, and what depends on a binary or count."""
    design = mapping.design
    model = design.model
    block = model.models[0].block("within", 0)
    causes = {n for n in design.outcomes if not model.is_gaussian(n)}
    families = dict(zip(design.outcomes, design.families, strict=True))
    found = {n for n in causes if families[n].level_one_variance is None}
    found |= {s.outcome for s in model.slopes}  # its variance differs between values of x
    for _ in block:
        for p in block:
            if p.op == "~" and (p.rhs in causes or p.rhs in found):
                found.add(p.lhs)
            elif p.op == "=~" and p.lhs in found:
                found.add(p.rhs)
    return sorted(found)


def mixed_standardized(fit: MixedFit) -> tuple[Array, Array]:
    """Standardised value (k,) and derivative (k, q) of every row of the parameter table."""
    raw, slope = table_values(fit)
    mapping = fit.layout.map
    model = fit.layout.design.model
    value = _standardise(mapping, model, fit.theta, raw)
    jacobian = np.zeros_like(slope)
    for a in range(fit.n_parameters):
        moved = fit.theta.astype(np.complex128)
        moved[a] += 1j * _STEP
        at = _standardise(mapping, model, moved, raw + 1j * _STEP * slope[:, a])
        jacobian[:, a] = at.imag / _STEP
    return value, np.where(np.isnan(value)[:, None], np.nan, jacobian)


def _standardise(
    mapping: MixedMap, model: MixedModel, theta: NDArray[Any], raw: NDArray[Any]
) -> NDArray[Any]:
    levels = _moments(mapping, theta)
    out = np.empty(len(raw), dtype=raw.dtype)
    for k, (p, home) in enumerate(zip(model.parameters, model.homes, strict=True)):
        out[k] = raw[k] * _factor(p, levels[home])
    return out


def _factor(p: Parameter, at: _Moments) -> Any:
    """What one parameter is multiplied by."""
    i = at.names.index(p.lhs)
    own = at.cov[i, i]
    if p.is_variance:
        return 1.0 / own if own.real > 0.0 else np.nan
    if p.op == "~1":
        return _root(own, -1.0)
    j = at.names.index(p.rhs)
    if p.op == "~~":
        return _root(at.S[i, i], -1.0) * _root(at.S[j, j], -1.0)
    power = -1.0 if p.op == "~" else 1.0
    return _root(own, power) * _root(at.cov[j, j], -power)


def _root(variance: Any, power: float) -> Any:
    return np.sqrt(variance) ** power if variance.real > 0.0 else np.nan


def mixed_r_squared(fit: MixedFit) -> tuple[LatentResponseVariance, ...]:
    """R-squared of every variable that something points at, by level."""
    design, model = fit.layout.design, fit.layout.design.model
    levels = _moments(fit.layout.map, fit.theta)
    out = []
    for home, at in levels.items():
        block = [p for p, h in zip(model.parameters, model.homes, strict=True) if h == home]
        pointed = [p.lhs if p.op == "~" else p.rhs for p in block if p.op in ("~", "=~")]
        for name in dict.fromkeys(pointed):
            i = at.names.index(name)
            total, left = float(at.cov[i, i]), float(at.S[i, i])
            share = 1.0 - left / total if total > 0.0 else float("nan")
            scale = "own units"
            if name in model.families:
                link = design.families[design.outcomes.index(name)].link
                scale = f"latent response ({link})" if home == "within" else f"{link} of the mean"
            out.append(LatentResponseVariance(home, name, total, left, share, scale))
    return tuple(out)


def scale_sentences(fit: MixedFit) -> tuple[str, ...]:
    """On which scale slopes and their products are, one sentence each."""
    design, model = fit.layout.design, fit.layout.design.model
    out = []
    for k, name in enumerate(design.outcomes):
        if name in model.families:
            out.append(
                f"Slopes for {name} are on the {design.families[k].link} scale"
                f" ({design.families[k].label}), given the random effects of the cluster."
            )
    for s in model.slopes:
        words = f"{s.name} is the slope of {s.outcome} on the observed {s.predictor}"
        if s.outcome in model.families:
            words += f" on the {design.families[design.outcomes.index(s.outcome)].link} scale"
        is_contextual = s.predictor in model.split and any(
            p.op == "~" and (p.lhs, p.rhs) == (s.outcome, s.predictor) and h != "within"
            for p, h in zip(model.parameters, model.homes, strict=True)
        )
        if is_contextual:
            words += (
                f"; the slope of {s.outcome} on {s.predictor} between clusters is contextual: the"
                " between slope is the mean slope more"
            )
        out.append(f"{words}.")
    block = [p for p, h in zip(model.parameters, model.homes, strict=True) if h == "within"]
    for name in (n for n in design.outcomes if n in model.families):
        effects = sorted({p.lhs for p in block if p.op == "~" and p.rhs == name})
        if not effects:
            continue
        link = design.families[design.outcomes.index(name)].link
        out.append(
            f"Within clusters {name} acts on {', '.join(effects)} in its own units (one more), but"
            f" its own slopes are on the {link} scale: a product of the two is in neither unit and"
            " is no indirect effect. Its sign and its test (both slopes differ from zero) can be"
            " read, its size cannot."
        )
        if name in model.split:
            out.append(
                f"Between clusters {name} is the random intercept of its {link}: products of"
                f" slopes there are on the scale of the last outcome. With the observed {name}"
                " within, its slope there is contextual: the effect of the cluster beyond that of"
                " the rows' own values."
            )
    return tuple(out)
