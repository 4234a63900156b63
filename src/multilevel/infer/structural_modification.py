"""Modification indices: what -2 log-likelihood would gain from one more parameter.

The score test (Rao 1948; Sorbom 1989, Psychometrika 54:371): for a candidate at zero with score s
and expected information I, ``s^2 / (I_cc - I_ct I_tt^-1 I_tc)`` is chi-square with 1 df if the
candidate is zero; s over the same denominator is its expected change. No model is fitted again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.distributions import chi_square_tail
from multilevel.model.structural.records import Level, Parameter, StructuralModel

Array = NDArray[np.float64]
_LEAST = 1e-6  # share of a candidate's information that the model's own parameters must leave


@dataclass(frozen=True)
class ModificationIndex:
    """One candidate: ``index`` is chi-square with 1 df, ``expected_change`` its likely estimate."""

    level: str
    group: str
    lhs: str
    op: str
    rhs: str
    index: float
    expected_change: float
    p_value: float


def modification_indices(
    problem: StructuralProblem, fit: StructuralFit
) -> tuple[ModificationIndex, ...]:
    """Score tests of loadings and (residual) covariances that the model leaves out, largest first.

    Candidates that the model's own parameters determine are not identified, and left out.

    Raises
    ------
    InferenceError : a model with random slopes.
    """
    model = fit.model
    if model.random_slopes:
        raise InferenceError(
            "Modification indices rest on the expected information.",
            f"random slopes {', '.join(model.slope_names)}, with which there is none",
            "fit the larger model, and compare -2 log-likelihood",
        )
    own = model.n_free
    rows = list(model.parameters)
    added: list[Parameter] = []
    for group in range(len(model.groups)):
        for level in model.levels:
            for candidate in _candidates(model, level, group):
                added.append(replace(candidate, free=own + len(added)))
    if not added:
        return ()
    places = {(p.level, p.group, p.op, frozenset((p.lhs, p.rhs))) for p in added}
    kept = [p for p in rows if (p.level, p.group, p.op, frozenset((p.lhs, p.rhs))) not in places]
    larger = replace(
        model,
        parameters=(*kept, *added),
        free_names=(*model.free_names, *(f"{p.name} [{p.level}]" for p in added)),
    )
    objective = problem.objective(larger)
    theta = np.append(fit.theta, np.zeros(len(added)))
    score = -0.5 * objective.gradient(theta)[own:]
    information = objective.expected_information(theta)
    T = np.eye(own) if fit.boundary is None else fit.boundary.tangent
    cross = T.T @ information[:own, own:]
    total = np.diag(information)[own:]
    inner = T.T @ information[:own, :own] @ T
    left = total - np.sum(cross * np.linalg.solve(inner, cross), axis=0)
    out = [
        ModificationIndex(
            model.level_name(p.level), model.groups[p.group], p.lhs, p.op, p.rhs,
            float(score[k] ** 2 / left[k]), float(score[k] / left[k]),
            float(chi_square_tail(score[k] ** 2 / left[k], 1)),
        )
        for k, p in enumerate(added)
        if left[k] > _LEAST * total[k]
    ]  # fmt: skip
    return tuple(sorted(out, key=lambda m: -m.index))


def _candidates(model: StructuralModel, level: Level, group: int) -> list[Parameter]:
    """Loadings and covariances that are absent, or fixed at zero."""
    block = model.block(level, group)
    present = {(p.op, frozenset((p.lhs, p.rhs))) for p in block if p.is_free or p.value != 0.0}
    connected = {frozenset((p.lhs, p.rhs)) for p in block if p.op in ("~", "=~")}
    fixed = set(model.fixed_exogenous)
    observed, latent = model.observed(level), model.latent(level)
    factors = [f for f in latent if any(p.op == "=~" and p.lhs == f for p in block)]
    indicators = {p.rhs for p in block if p.op == "=~"}
    out = [
        Parameter(level, group, f, "=~", y)
        for f in factors
        for y in observed
        if y in indicators and ("=~", frozenset((f, y))) not in present
    ]
    for a, b in combinations(observed, 2):
        pair = frozenset((a, b))
        if pair & fixed or ("~~", pair) in present or pair in connected:
            continue
        out.append(Parameter(level, group, a, "~~", b))
    return out
