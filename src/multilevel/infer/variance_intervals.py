"""Variances, standard deviations, correlations and the residual with Wald intervals.

The covariance of ``(theta, log sigma2)`` is twice the inverse of the full Hessian of the criterion
on the face that holds the optimum; the delta method maps it to the user's units exactly. Intervals
are symmetric for log SD and for Fisher's z of a correlation, so they never leave the admissible
range. At the boundary (a variance of zero, a correlation of 1) no Wald interval exists: the row
has no standard error, and profile likelihood gives a one-sided interval.
Sources: Pinheiro & Bates 2000, section 2.4.3; own derivation of the chain to user's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.face import Face, face_of
from multilevel.infer.satterthwaite import hessian
from multilevel.model.covariance.curves import HOMOGENEOUS, Curve

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]
Component = Literal[
    "fixed", "variance", "sd", "covariance", "correlation", "range", "loading", "uniqueness"
]
STRUCTURAL: tuple[Component, ...] = ("range", "loading", "uniqueness")
RESIDUAL = "Residual"
FREE_COVARIANCES = ("unstructured", "compound_symmetry")


@dataclass(frozen=True)
class Quantity:
    """One parameter of a fit in the user's units.

    Attributes
    ----------
    term : effect, or ``"a, b"`` for a covariance or correlation; empty for the residual.
    group : grouping factor; ``"Residual"``; empty for a fixed effect.
    component : what it is.
    block, a, b : where it is in the design (block -1: residual, -2: fixed effect ``a``).
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
class Interval:
    """An estimate with its interval.

    Attributes
    ----------
    quantity : what it is.
    estimate, std_error : NaN standard error where it does not exist or is not part of the method.
    conf_low, conf_high : limits.
    note : anything out of the ordinary, as a sentence.
    """

    quantity: Quantity
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    note: str = ""


def check_conf_level(conf_level: float) -> float:
    """A confidence level strictly between 0 and 1."""
    if not 0.0 < conf_level < 1.0:
        raise InferenceError(
            "The confidence level must lie between 0 and 1.",
            f"conf_level={conf_level}",
            "write conf_level=0.95",
        )
    return float(conf_level)


def quantities(design: Design, components: Sequence[Component]) -> tuple[Quantity, ...]:
    """Every parameter of the named kinds: fixed effects, then factor by factor, residual last."""
    out: list[Quantity] = []
    if "fixed" in components:
        out += [Quantity(n, "", "fixed", -2, k, k) for k, n in enumerate(design.names)]
    scales: list[Component] = [c for c in ("variance", "sd") if c in components]
    crosses: list[Component] = [c for c in ("covariance", "correlation") if c in components]
    for t, block in enumerate(design.blocks):
        for number, (start, stop, structure) in enumerate(block.structure.terms):
            curve = block.structure.curve(number)
            if curve is not None:
                out += _structured(t, start, block, curve, components)
                continue
            for a in range(start, stop):
                out += [Quantity(block.names[a], block.group, c, t, a, a) for c in scales]
            if structure not in FREE_COVARIANCES:
                continue
            for a in range(start, stop):
                for b in range(start, a):
                    names = f"{block.names[b]}, {block.names[a]}"
                    out += [Quantity(names, block.group, c, t, a, b) for c in crosses]
    out += [Quantity("", RESIDUAL, c, -1, 0, 0) for c in scales]
    return tuple(out)


def _structured(
    t: int, start: int, block: RandomBlock, curve: Curve, components: Sequence[Component]
) -> list[Quantity]:
    """SDs of a structured term (one where all are equal), then its other parameters."""
    scales: list[Component] = [c for c in ("variance", "sd") if c in components]
    if curve.structure in HOMOGENEOUS:
        out = [Quantity(curve.stem, block.group, c, t, start, start, curve) for c in scales]
    else:
        out = [
            Quantity(name, block.group, c, t, start + a, start + a, curve)
            for a, name in enumerate(block.names[start : start + curve.width])
            for c in scales
        ]
    for k, (name, kind) in enumerate(curve.parameter_names()):
        for c in components:
            if c == kind:
                term = name if kind in ("loading", "uniqueness") else f"{curve.stem}: {name}"
                out.append(Quantity(term, block.group, c, t, start, start, curve, k))
    return out


def value_of(quantity: Quantity, beta: Array, G: Sequence[Array], sigma2: float) -> float:
    """The quantity from fixed effects, absolute covariances and the residual variance."""
    q = quantity
    if q.component == "fixed":
        return float(beta[q.a])
    if q.block == -1:
        return float(np.sqrt(sigma2)) if q.component == "sd" else float(sigma2)
    M = G[q.block]
    if q.curve is not None and q.k >= 0:
        own = slice(q.a, q.a + q.curve.width)
        if not np.trace(M[own, own]) > 0.0:
            return float("nan")
        return float(q.curve.natural(q.curve.parameters(M[own, own]))[q.k])
    if q.component in ("variance", "covariance"):
        return float(M[q.a, q.b])
    if q.component == "sd":
        return float(np.sqrt(max(M[q.a, q.a], 0.0)))
    scale = float(np.sqrt(max(M[q.a, q.a] * M[q.b, q.b], 0.0)))
    return float(np.clip(M[q.a, q.b] / scale, -1.0, 1.0)) if scale > 0.0 else float("nan")


@dataclass(frozen=True)
class _Parameters:
    """Covariance of the free parameters and the slopes of G and sigma2 in them."""

    covariance: Array
    slopes: tuple[Array, ...]
    sigma2_slope: Array
    face: Face
    scaling: tuple[Array, ...]


def _parameters(prepared: Prepared, fit: Fit, objective: GaussianObjective) -> _Parameters:
    face = face_of(prepared, fit, objective)
    H = hessian(face)[0]
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    values, vectors = np.linalg.eigh(H * np.outer(scale, scale))
    if values[0] <= 1e-10 * values[-1]:
        raise InferenceError(
            "Wald intervals need a criterion that curves upwards at the optimum.",
            "a Hessian of the variances that is not positive definite",
            'use method="profile" or method="bootstrap", or simplify the random effects',
        )
    covariance = 2.0 * ((vectors / values) @ vectors.T) * np.outer(scale, scale)
    r = face.objective.n_parameters
    slopes = []
    for t, (B, D) in enumerate(
        zip(prepared.scaling.random, face.objective.directions(), strict=True)
    ):
        slope = np.zeros((r + 1, *fit.random_covariance[t].shape))
        slope[face.objective.slices[t]] = fit.sigma2 * (B @ D @ B.T)
        slope[r] = fit.random_covariance[t]
        slopes.append(slope)
    last = np.zeros(r + 1)
    last[r] = fit.sigma2
    return _Parameters(covariance, tuple(slopes), last, face, prepared.scaling.random)


def _gradient(q: Quantity, fit: Fit, at: _Parameters) -> Array:
    """Slope of a variance quantity in the free parameters."""
    if q.block == -1:
        return (
            at.sigma2_slope / (2.0 * np.sqrt(fit.sigma2))
            if q.component == "sd"
            else (at.sigma2_slope)
        )
    if q.curve is not None and q.k >= 0:
        return _structure_gradient(q, q.curve, fit, at)
    G, dG = fit.random_covariance[q.block], at.slopes[q.block]
    if q.component in ("variance", "covariance"):
        return np.asarray(dG[:, q.a, q.b])
    if q.component == "sd":
        sd = np.sqrt(G[q.a, q.a])
        return np.asarray(dG[:, q.a, q.a] / (2.0 * sd))
    va, vb = G[q.a, q.a], G[q.b, q.b]
    r = G[q.a, q.b] / np.sqrt(va * vb)
    return np.asarray(
        dG[:, q.a, q.b] / np.sqrt(va * vb) - 0.5 * r * (dG[:, q.a, q.a] / va + dG[:, q.b, q.b] / vb)
    )


def _structure_gradient(q: Quantity, curve: Curve, fit: Fit, at: _Parameters) -> Array:
    """Slope of a natural parameter of a structure in the free parameters."""
    objective = at.face.objective
    mapping = objective.maps[q.block]
    number = next(k for k, (start, _, _) in enumerate(mapping.terms) if start == q.a)
    own = mapping.parameter_slices()[number]
    first = objective.slices[q.block].start
    where = slice(first + own.start, first + own.stop)
    unit = float(np.sqrt(fit.sigma2)) * float(at.scaling[q.block][q.a, q.a])
    out = np.zeros(len(at.sigma2_slope))
    out[where] = curve.natural_slopes(at.face.theta[where], unit)[q.k]
    if q.component in ("loading", "uniqueness"):
        out[-1] = 0.5 * curve.natural(at.face.theta[where], unit)[q.k]
    return out


def is_at_boundary(quantity: Quantity, fit: Fit) -> bool:
    """Whether a variance is zero or a correlation 1 or undefined at the fit."""
    if quantity.block < 0:
        return False
    G = fit.random_covariance[quantity.block]
    va, vb = G[quantity.a, quantity.a], G[quantity.b, quantity.b]
    size = max(float(np.trace(G)), fit.sigma2)
    if quantity.curve is not None and quantity.k >= 0:
        own = slice(quantity.a, quantity.a + quantity.curve.width)
        return float(np.trace(G[own, own])) <= 1e-14 * size
    if min(va, vb) <= 1e-14 * size:
        return True
    if quantity.a == quantity.b:
        return False
    return bool(1.0 - abs(G[quantity.a, quantity.b]) / np.sqrt(va * vb) < 1e-8)


def wald_intervals(
    prepared: Prepared,
    fit: Fit,
    objective: GaussianObjective,
    which: Sequence[Quantity],
    conf_level: float,
) -> tuple[Interval, ...]:
    """Wald intervals; fixed effects by the normal distribution, variances on the log scale,
    correlations on Fisher's z scale, covariances on their own scale.

    Raises
    ------
    InferenceError : the Hessian of the variances is not positive definite.
    """
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    at = None
    out = []
    for q in which:
        x = value_of(q, fit.beta, fit.random_covariance, fit.sigma2)
        if q.component == "fixed":
            se = float(np.sqrt(max(fit.vcov_beta[q.a, q.a], 0.0)))
            out.append(Interval(q, x, se, x - z * se, x + z * se))
            continue
        if is_at_boundary(q, fit):
            is_size = q.a == q.b and q.k < 0
            low, high = (0.0, float("nan")) if is_size else (float("nan"), float("nan"))
            note = (
                f"The {q.component} of {q.term} over {q.group} is at its boundary: no Wald "
                'interval exists there, use method="profile".'
            )
            out.append(Interval(q, x, float("nan"), low, high, note))
            continue
        at = at or _parameters(prepared, fit, objective)
        g = _gradient(q, fit, at)
        se = float(np.sqrt(max(float(g @ at.covariance @ g), 0.0)))
        if q.curve is not None and q.k >= 0:
            out.append(Interval(q, x, se, *q.curve.interval(q.k, x, se, z)))
            continue
        out.append(Interval(q, x, se, *_limits(q.component, x, se, z)))
    return tuple(out)


def _limits(component: Component, x: float, se: float, z: float) -> tuple[float, float]:
    if component in ("variance", "sd"):
        width = float(np.exp(z * se / x))
        return x / width, x * width
    if component == "correlation":
        middle, half = float(np.arctanh(x)), z * se / (1.0 - x * x)
        return float(np.tanh(middle - half)), float(np.tanh(middle + half))
    return x - z * se, x + z * se
