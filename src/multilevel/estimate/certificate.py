"""The convergence certificate: evidence instead of warnings, in the user's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.boundary import NullDirection, scaled_score
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Certificate, RedundantDirection, Status
from multilevel.estimate.trust_region import Path
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.model.covariance.curves import Curve

Array = NDArray[np.float64]
#: Largest expected further fall of the criterion that still counts as the optimum.
DECREMENT_LIMIT = 1e-6
BOUNDARY_LIMIT = -1e-6
RESIDUAL_LIMIT = 1e-9  # residual variance as a share of the response's, below which it is zero
STRUCTURED_LIMIT = 1e-3  # the same where occasions with one row each have effects of their own
CURVATURE_LIMIT = -1e-6


@dataclass
class Account:
    """What was done to reach the optimum."""

    restarts: int = 0
    iterations: int = 0
    history: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _name(weights: dict[str, float]) -> str:
    """A combination in words: ``(Intercept) + 0.31 ses``."""
    top = max(weights.values(), key=abs)
    parts: list[str] = []
    for name, weight in weights.items():
        ratio = weight / top
        if abs(ratio) < 1e-3:
            continue
        amount = "" if abs(abs(ratio) - 1.0) < 1e-3 else f"{abs(ratio):.3g} "
        sign = ("- " if ratio < 0 else "+ ") if parts else ("-" if ratio < 0 else "")
        parts.append(f"{sign}{amount}{name}")
    return " ".join(parts)


def redundant(prepared: Prepared, directions: Sequence[NullDirection]) -> list[RedundantDirection]:
    """Zero-variance directions on the raw scale, named."""
    out = []
    for direction in directions:
        block = prepared.design.blocks[direction.block]
        B = prepared.scaling.random[direction.block]
        rows = slice(direction.start, direction.stop)
        curve = next(
            block.structure.curve(k)
            for k, term in enumerate(block.structure.terms)
            if term[0] == direction.start
        )
        if curve is not None and direction.weights.shape[1] > 1:
            out.append(_whole_term(block.group, curve))
            continue
        back = np.linalg.inv(B[rows, rows]).T
        for k in range(direction.weights.shape[1]):
            w = back @ direction.weights[:, k]
            w = w / np.linalg.norm(w)
            names = block.names[direction.start : direction.stop]
            weights = {n: float(x) for n, x in zip(names, w, strict=True) if abs(x) > 1e-6}
            if len(weights) == 1:
                what = next(iter(weights))
                text = (
                    f"The variance of {what} across {block.group} is estimated as exactly zero: "
                    f"leaving this random effect out gives the same likelihood."
                )
            else:
                text = (
                    f"Across {block.group}, the combination {_name(weights)} does not vary: its "
                    f"random effects are perfectly correlated, so one of them is redundant."
                )
            out.append(RedundantDirection(block.group, weights, text))
    return out


def _whole_term(group: str, curve: Curve) -> RedundantDirection:
    """All effects of a term with one variance, which is zero."""
    weights = dict.fromkeys(curve.labels, float(curve.width**-0.5))
    return RedundantDirection(
        group,
        weights,
        f"The variance of {curve.structure}({curve.stem}) across {group} is estimated as exactly "
        "zero: leaving this term out gives the same likelihood.",
    )


def curvature_floor(curvature: Array) -> float:
    """Smallest eigenvalue of the curvature scaled to a unit diagonal."""
    H = curvature
    if H.size == 0:
        return 1.0
    d = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-12 * max(float(np.abs(H).max()), 1e-300)))
    return float(np.linalg.eigvalsh(H / np.outer(d, d))[0])


def scaled_gradient(gradient: Array, curvature: Array) -> float:
    """Largest ``|g_a| / sqrt(H_aa)``: distance to the optimum in standard errors."""
    if gradient.size == 0:
        return 0.0
    d = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
    return float(np.max(np.abs(gradient) / np.where(np.diag(curvature) > 0, d, 1.0)))


def _reasons(
    objective: GaussianObjective, path: Path, floor: float, residual: float, noise: float
) -> list[str]:
    """Why the point is not shown to be an optimum; empty if it is. ``residual`` is NaN inside."""
    sigma2 = objective.profile.sigma2 if objective.profile is not None else 1.0
    inside = np.isnan(residual)
    limit = max(DECREMENT_LIMIT, 1e-12 * abs(path.value), 0.05 * noise**2)
    reasons = []
    if not path.decrement <= limit:
        reasons.append(
            f"the criterion would still fall by about {path.decrement:.2g} ({path.reason})"
        )
    if floor < CURVATURE_LIMIT and inside:
        reasons.append(f"the curvature is not positive (smallest eigenvalue {floor:.2g})")
    if not inside and residual < BOUNDARY_LIMIT:
        reasons.append(
            f"a variance that is estimated as zero would raise the likelihood ({residual:.2g})"
        )
    if reasons and sigma2 < STRUCTURED_LIMIT and not all(m.is_linear for m in objective.maps):
        return [
            f"the residual variance goes to zero ({sigma2:.1g} of the variance of the response): "
            "the structure of the random effects describes all of it, so write it as residuals, "
            'like residual="ar1(time | id)"'
        ]
    if reasons and sigma2 < RESIDUAL_LIMIT:
        return [
            f"the residual variance goes to zero ({sigma2:.1g} of the variance of the response): "
            "fixed and random effects reproduce the response exactly, so use fewer of them"
        ]
    return reasons


def _verdict(
    path: Path, reasons: Sequence[str], is_singular: bool, curvature_kind: str
) -> tuple[Status, str]:
    """The status and its sentence."""
    if reasons:
        told = "; ".join(reasons)
        return "not_certified", f"NOT at an optimum: {told}. Do not trust these estimates."
    if is_singular:
        return "singular", (
            "At the optimum, which lies on the boundary (a singular fit): no variance in a zero "
            "direction would raise the likelihood."
        )
    upwards = (
        "its average-information curvature is positive"
        if curvature_kind == "average information"
        else "it curves upwards in every direction"
    )
    gain = max(path.decrement, 1e-16)
    return "certified", (
        f"At the optimum: the criterion can fall by no more than {gain:.1g}, and {upwards}."
    )


def certify(
    prepared: Prepared,
    objective: GaussianObjective,
    path: Path,
    directions: Sequence[NullDirection],
    account: Account,
    curvature_kind: str,
    monte_carlo_error: float,
) -> Certificate:
    """Weigh the evidence at the final point and say it in one sentence."""
    residual = min((scaled_score(objective, d) for d in directions), default=float("nan"))
    floor = curvature_floor(path.curvature)
    reasons = _reasons(objective, path, floor, residual, monte_carlo_error)
    named = redundant(prepared, directions)
    status, sentence = _verdict(path, reasons, bool(named), curvature_kind)
    return Certificate(
        status=status,
        sentence=sentence,
        newton_decrement=float(path.decrement),
        max_scaled_gradient=scaled_gradient(path.gradient, path.curvature),
        min_curvature=floor,
        curvature=curvature_kind,
        boundary_residual=float(residual),
        redundant=tuple(named),
        iterations=account.iterations,
        evaluations=objective.engine.n_evaluations,
        restarts=account.restarts,
        monte_carlo_error=monte_carlo_error,
        history=tuple(account.history),
        notes=tuple(account.notes),
    )
