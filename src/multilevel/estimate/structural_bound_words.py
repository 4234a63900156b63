"""What is at the boundary in words, and the certificate of an optimum there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.certificate import (
    BOUNDARY_LIMIT,
    CURVATURE_LIMIT,
    DECREMENT_LIMIT,
    curvature_floor,
    scaled_gradient,
)
from multilevel.estimate.records import Certificate
from multilevel.model.structural.records import Level, StructuralModel

Array = NDArray[np.float64]
ZERO = 1e-7  # share of the variances below which an eigenvalue is zero


def bound_sentences(
    model: StructuralModel, level: Level, group: int, names: Sequence[str], S: Array, n_zero: int
) -> tuple[str, ...]:
    """What is zero in one block: variances, then correlations of one.

    Parameters
    ----------
    names, S : (k,) variables and (k, k) their matrix in units of the variables.
    n_zero : number of directions in which it is zero.
    """
    if not n_zero:
        return ()
    where = f" in group {model.groups[group]}" if len(model.groups) > 1 else ""
    at = f"at the {model.level_name(level)} level{where}" if model.cluster else where.strip()
    none = [n for i, n in enumerate(names) if S[i, i] <= ZERO]
    out = []
    block = model.block(level, group)
    pointed = {p.lhs for p in block if p.op == "~"} | {p.rhs for p in block if p.op == "=~"}
    if level == "within":
        pointed |= {s.outcome for s in model.random_slopes}
    for kind, mine in (
        ("variance", [n for n in none if n not in pointed]),
        ("residual variance", [n for n in none if n in pointed]),
    ):
        if not mine:
            continue
        joined = any(
            p.op == "~~" and p.is_free and p.lhs != p.rhs and {p.lhs, p.rhs} & set(mine)
            for p in block
        )
        covariances = ", and its covariances with it" if joined else ""
        out.append(
            f"The {kind} of {' and '.join(mine)} {at}".rstrip()
            + f" is estimated as zero{covariances}: without that bound the likelihood would be"
            f" highest at a negative variance. {_same(kind, mine, level, joined)}"
        )
    rest = [n for n in names if n not in none]
    if len(rest) and n_zero > len(none):
        out.append(
            f"{' and '.join(rest)} {at}".rstrip()
            + " are estimated as perfectly correlated (a combination of them does not vary): the"
            " data hold too little information on their covariances."
        )
    return tuple(out)


def flat_sentence(model: StructuralModel, flat: Array) -> str:
    """Which parameters the data do not determine, given what is zero.

    Parameters
    ----------
    flat : (q, f) directions that leave the likelihood as it is.
    """
    share = np.abs(flat).max(axis=1)
    named = [
        f"{p.name} ({model.level_name(p.level)})"
        for p in model.parameters
        if p.is_free and share[p.free] > 1e-4 * float(share.max())
    ]
    return (
        f"With that, the data do not determine {', '.join(dict.fromkeys(named))}, only combinations"
        " of them: their estimates are one choice of many and have no standard errors. Take a"
        " predictor out at that level, or use more of its units."
    )


def _same(kind: str, names: Sequence[str], level: Level, joined: bool) -> str:
    """The smaller model that says the same."""
    if kind == "variance":
        inside = " between clusters" if level != "within" else ""
        return f"A model in which it does not vary{inside} has the same likelihood."
    written = ", ".join(f"{n} ~~ 0*{n}" for n in names)
    without = " and without its covariances" if joined else ""
    return (
        f"Its predictors or latent variables explain all of it there; the model with {written}"
        f"{without} has the same likelihood."
    )


def bound_certificate(
    decrement: float,
    gradient: Array,
    hessian: Array,
    residual: float,
    iterations: int,
    evaluations: int,
    history: Sequence[float],
    *,
    is_boundary: bool,
    restarts: int = 0,
) -> Certificate:
    """The certificate of a point that may lie on the boundary.

    Parameters
    ----------
    gradient, hessian : (m,), (m, m) in what is left to vary.
    residual : smallest eigenvalue of the multiplier of the bounds; NaN inside.
    """
    floor = curvature_floor(hessian)
    reasons = []
    value = history[-1] if history else 0.0
    if not decrement <= max(DECREMENT_LIMIT, 1e-12 * abs(value)):
        reasons.append(f"-2 log-likelihood would still fall by about {decrement:.2g}")
    if floor < CURVATURE_LIMIT:
        reasons.append(f"the curvature is not positive (smallest eigenvalue {floor:.2g})")
    elif floor < 1e-9:
        reasons.append("the data do not determine all parameters (a flat direction)")
    if residual < BOUNDARY_LIMIT:
        reasons.append(f"a variance that is estimated as zero would raise it ({residual:.2g})")
    gain = max(decrement, 1e-16)
    sentence = f"At the optimum: -2 log-likelihood can fall by no more than {gain:.1g}."
    if is_boundary:
        sentence = (
            "At the optimum, which lies on the boundary: -2 log-likelihood can fall by no more than"
            f" {gain:.1g}, and no variance in a zero direction would lower it."
        )
    if reasons:
        sentence = f"NOT at an optimum: {'; '.join(reasons)}. Do not trust these estimates."
    return Certificate(
        status="not_certified" if reasons else "singular" if is_boundary else "certified",
        sentence=sentence,
        newton_decrement=float(decrement),
        max_scaled_gradient=scaled_gradient(gradient, hessian),
        min_curvature=floor,
        curvature="exact",
        boundary_residual=float(residual),
        redundant=(),
        iterations=iterations,
        evaluations=evaluations,
        restarts=restarts,
        history=tuple(history),
    )
