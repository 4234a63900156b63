"""Parameters of a generalized fit in the user's units, and their Wald intervals.

Delta method; limits symmetric for log SD and log variance, and for Fisher's z of a correlation.
Source: Pinheiro & Bates 2000, section 2.4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import RandomBlock
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.generalized.natural import natural_parameters
from multilevel.infer.variance_intervals import FREE_COVARIANCES
from multilevel.model.covariance.curves import HOMOGENEOUS, Curve

Array = NDArray[np.float64]
Component = Literal[
    "fixed", "natural", "variance", "sd", "covariance", "correlation", "range", "loading",
    "uniqueness",
]  # fmt: skip
COMPONENTS: tuple[Component, ...] = get_args(Component)
DEFAULT: tuple[Component, ...] = (
    "fixed", "natural", "sd", "correlation", "range", "loading", "uniqueness",
)  # fmt: skip
OK = "ok"


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes
    ----------
    term : effect (parts other than the mean in front), ``"a, b"`` for a covariance, the name of a
        natural parameter.
    group : grouping factor; the part of a natural parameter; empty for a fixed effect.
    component : what it is.
    block, a, b : where it is (block -1: position ``a`` in ``psi``; -2: natural parameter ``a``).
    curve, k : structure of a term that is not linear, and which of its parameters (-1: an SD).
    """

    term: str
    group: str
    component: Component
    block: int
    a: int
    b: int
    curve: Curve | None = None
    k: int = -1


@dataclass(frozen=True)
class ParameterInterval:
    """An estimate with its interval; ``status`` is ``"ok"`` or why there is none."""

    parameter: Parameter
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    status: str = OK


def check_components(components: Sequence[str] | None) -> tuple[Component, ...]:
    """The kinds of parameters asked for; None takes the default.

    Raises
    ------
    InferenceError : an unknown kind, or none.
    """
    if components is None:
        return DEFAULT
    wanted = [components] if isinstance(components, str) else list(components)
    if not wanted or any(c not in COMPONENTS for c in wanted):
        raise InferenceError(
            f"components must be among {', '.join(map(repr, COMPONENTS))}.",
            repr(components),
            'write components=["fixed", "natural", "sd", "correlation"], which is the default',
        )
    return tuple(c for c in COMPONENTS if c in wanted)


def parameters(
    design: GeneralizedDesign, fit: GeneralizedFit, components: Sequence[Component]
) -> tuple[Parameter, ...]:
    """Every parameter of the named kinds: fixed effects, natural ones, then factor by factor."""
    out: list[Parameter] = []
    if "fixed" in components:
        names = enumerate(design.parameter_names)
        out += [Parameter(name, "", "fixed", -1, k, k) for k, name in names]
    if "natural" in components:
        found = enumerate(natural_parameters(design, fit))
        out += [Parameter(p.term, p.part, "natural", -2, k, k) for k, p in found]
    scales: list[Component] = [c for c in ("variance", "sd") if c in components]
    crosses: list[Component] = [c for c in ("covariance", "correlation") if c in components]
    for t, block in enumerate(design.blocks):
        for number, (start, stop, structure) in enumerate(block.structure.terms):
            curve = block.structure.curve(number)
            if curve is not None:
                out += _structured(t, start, block, curve, components)
                continue
            for a in range(start, stop):
                out += [Parameter(block.names[a], block.group, c, t, a, a) for c in scales]
                if structure in FREE_COVARIANCES:
                    out += [
                        Parameter(f"{block.names[b]}, {block.names[a]}", block.group, c, t, a, b)
                        for b in range(start, a)
                        for c in crosses
                    ]
    return tuple(out)


def _structured(
    t: int, start: int, block: RandomBlock, curve: Curve, components: Sequence[Component]
) -> list[Parameter]:
    """SDs of a structured term (one where all are equal), then its other parameters."""
    scales: list[Component] = [c for c in ("variance", "sd") if c in components]
    one = curve.structure in HOMOGENEOUS
    labels = (curve.stem,) if one else block.names[start : start + curve.width]
    out = [
        Parameter(label, block.group, c, t, start + a, start + a, curve)
        for a, label in enumerate(labels)
        for c in scales
    ]
    for k, (name, kind) in enumerate(curve.parameter_names()):
        for c in components:
            if c == kind:
                term = name if kind in ("loading", "uniqueness") else f"{curve.stem}: {name}"
                out.append(Parameter(term, block.group, c, t, start, start, curve, k))
    return out


def own_slice(prepared: GeneralizedPrepared, q: Parameter) -> slice:
    """Where the parameters of a structured term stand in ``psi``."""
    structure = prepared.problem.blocks[q.block].structure
    number = next(k for k, (start, stop, _) in enumerate(structure.terms) if start <= q.a < stop)
    local = structure.parameter_slices()[number]
    first = prepared.problem.theta_slices[q.block].start
    return slice(first + local.start, first + local.stop)


def at_psi(prepared: GeneralizedPrepared, fit: GeneralizedFit, psi: Array) -> GeneralizedFit:
    """The fit with other parameters (covariances follow, nothing else does)."""
    factors = tuple(prepared.problem.factors(psi))
    return replace(
        fit,
        psi=psi,
        relative_factors=factors,
        random_covariance=tuple(L @ L.T for L in factors),
    )


def value_of(prepared: GeneralizedPrepared, fit: GeneralizedFit, q: Parameter) -> float:
    """A parameter's value; NaN for a correlation where a variance is zero."""
    if q.block == -1:
        return float(fit.psi[q.a])
    if q.block == -2:
        found = natural_parameters(prepared.design, fit)
        return found[q.a].estimate if q.a < len(found) else float("nan")
    if q.curve is not None and q.k >= 0:
        if is_at_boundary(fit, q):
            return float("nan")
        return float(q.curve.natural(fit.psi[own_slice(prepared, q)])[q.k])
    G = fit.random_covariance[q.block]
    if q.component in ("variance", "covariance"):
        return float(G[q.a, q.b])
    if q.component == "sd":
        return float(np.sqrt(max(G[q.a, q.a], 0.0)))
    scale = float(np.sqrt(max(G[q.a, q.a] * G[q.b, q.b], 0.0)))
    return float(np.clip(G[q.a, q.b] / scale, -1.0, 1.0)) if scale > 0.0 else float("nan")


def slope_of(prepared: GeneralizedPrepared, fit: GeneralizedFit, q: Parameter) -> Array:
    """Derivative (P,) of a variance quantity in ``psi``."""
    out = np.zeros(len(fit.psi))
    if q.curve is not None and q.k >= 0:
        own = own_slice(prepared, q)
        out[own] = q.curve.natural_slopes(fit.psi[own])[q.k]
        return out
    block = prepared.problem.blocks[q.block]
    where = prepared.problem.theta_slices[q.block]
    L, G = fit.relative_factors[q.block], fit.random_covariance[q.block]
    dG = block.structure.covariance_slopes(fit.psi[where], L)
    if q.component in ("variance", "covariance"):
        out[where] = dG[:, q.a, q.b]
        return out
    va, vb = G[q.a, q.a], G[q.b, q.b]
    if q.component == "sd":
        out[where] = dG[:, q.a, q.a] / (2.0 * np.sqrt(va))
        return out
    r = G[q.a, q.b] / np.sqrt(va * vb)
    direct = dG[:, q.a, q.b] / np.sqrt(va * vb)
    out[where] = direct - 0.5 * r * (dG[:, q.a, q.a] / va + dG[:, q.b, q.b] / vb)
    return out


def is_at_boundary(fit: GeneralizedFit, q: Parameter) -> bool:
    """Whether a variance is zero, or a correlation 1 or undefined."""
    if q.block < 0:
        return False
    G = fit.random_covariance[q.block]
    if q.curve is not None and q.k >= 0:
        own = slice(q.a, q.a + q.curve.width)
        return not float(np.trace(G[own, own])) > 0.0
    va, vb = float(G[q.a, q.a]), float(G[q.b, q.b])
    if min(va, vb) <= 1e-14 * max(float(np.trace(G)), 1e-300) or min(va, vb) == 0.0:
        return True
    return q.a != q.b and bool(1.0 - abs(G[q.a, q.b]) / np.sqrt(va * vb) < 1e-8)


def wald_intervals(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    which: Sequence[Parameter],
    conf_level: float,
) -> tuple[ParameterInterval, ...]:
    """Wald intervals by the normal distribution (see the module's text for the scales)."""
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    nan = float("nan")
    out = []
    for q in which:
        x = value_of(prepared, fit, q)
        if q.block == -2:
            p = natural_parameters(prepared.design, fit, conf_level)[q.a]
            status = OK if np.isfinite(p.std_error) else "at a limit: no standard error"
            out.append(ParameterInterval(q, x, p.std_error, p.conf_low, p.conf_high, status))
            continue
        if q.block >= 0 and is_at_boundary(fit, q):
            low = 0.0 if q.a == q.b and q.k < 0 else nan
            text = 'at its boundary: no Wald interval exists there, use method="profile"'
            out.append(ParameterInterval(q, x, nan, low, nan, text))
            continue
        g = np.eye(len(fit.psi))[q.a] if q.block == -1 else slope_of(prepared, fit, q)
        se = float(np.sqrt(max(float(g @ fit.vcov @ g), 0.0)))
        if se == 0.0:
            out.append(ParameterInterval(q, x, nan, nan, nan, "at a limit: no standard error"))
            continue
        if q.curve is not None and q.k >= 0:
            out.append(ParameterInterval(q, x, se, *q.curve.interval(q.k, x, se, z)))
            continue
        out.append(ParameterInterval(q, x, se, *_limits(q.component, x, se, z)))
    return tuple(out)


def _limits(component: Component, x: float, se: float, z: float) -> tuple[float, float]:
    if component in ("variance", "sd"):
        width = float(np.exp(z * se / x))
        return x / width, x * width
    if component == "correlation":
        middle, half = float(np.arctanh(x)), z * se / (1.0 - x * x)
        return float(np.tanh(middle - half)), float(np.tanh(middle + half))
    return x - z * se, x + z * se
