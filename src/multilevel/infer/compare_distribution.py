"""The null distribution for two nested fits: what may only grow, and its information.

The information of the new variances is taken at the smaller model's estimates: expected
information, or average information for large crossed designs; parameters that may move both ways,
and the residual variance, are projected out.
Source: Self & Liang 1987; Gilmour, Thompson & Cullis 1995 (average information).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.infer.information_traces import components_of, pair_grams, trace
from multilevel.infer.mixture import (
    NullDistribution,
    chi_square,
    cone_of_matrices,
    one_variance,
    several_variances,
)
from multilevel.model.covariance.structures import parameters_from_covariance

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.infer.compare_nesting import Nesting
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]
EXPECTED_WORK = 4e6  # random effects times connected random effects


def null_distribution(
    small: Fit, large: Prepared, nesting: Nesting, df: int, rng: np.random.Generator
) -> NullDistribution:
    """Distribution of -2 delta LL if the smaller model holds; ``df`` more parameters in all."""
    n_free = df - nesting.n_boundary
    k = nesting.n_new_variances
    if k == 0:
        return chi_square(df)
    if k == 1:
        return one_variance(n_free)
    information, kind = efficient_information(small, large, nesting)
    orders = tuple(len(p.cone) for p in nesting.parts if len(p.cone))
    if all(d == 1 for d in orders):
        found = several_variances(n_free, information, rng)
    else:
        rays = sum(len(p.rays) for p in nesting.parts)
        found = cone_of_matrices(n_free, orders + (1,) * rays, information, rng)
    return NullDistribution(
        found.df, found.weights, f"{found.sentence} ({kind} information)", found.squared_lengths
    )


def efficient_information(small: Fit, large: Prepared, nesting: Nesting) -> tuple[Array, str]:
    """Information of the one-sided directions (matrix parts first, then rays), and its kind."""
    objective = _embedded(small, large, nesting)
    free: list[tuple[int, Array]] = []
    matrices: list[tuple[int, Array]] = []
    rays: list[tuple[int, Array]] = []
    for part in nesting.parts:
        q = objective.maps[part.block].basis.shape[1]
        back: Array = np.asarray(np.linalg.inv(large.scaling.random[part.block]))

        def scaled(S: Array, start: int = part.start, q: int = q, back: Array = back) -> Array:
            whole = np.zeros((q, q))
            whole[start : start + len(S), start : start + len(S)] = S
            return np.asarray(back @ whole @ back.T)

        free += [(part.block, scaled(S)) for S in part.free]
        rays += [(part.block, scaled(S)) for S in part.rays]
        d = len(part.cone)
        for a in range(d):
            for b in range(a + 1):
                u, v = part.cone[a], part.cone[b]
                S = np.outer(u, u) if a == b else np.outer(u, v) + np.outer(v, u)
                matrices.append((part.block, scaled(S)))
    directions = [*free, *matrices, *rays]
    for t, (mapping, D) in enumerate(zip(objective.maps, objective.directions(), strict=True)):
        curved = [mapping.curve(k) is not None for k in range(len(mapping.terms))]
        for s, is_curved in zip(mapping.parameter_slices(), curved, strict=True):
            free += [(t, E) for E in D[s] if is_curved and np.any(E)]
    if _is_cheap(large, objective):
        information, kind = _expected(large, objective, directions), "expected"
    else:
        information, kind = _average(objective, directions), "average"
    f = len(free)
    tested = information[f:, f:]
    if f:
        tested = (
            tested
            - information[f:, :f]
            @ np.linalg.pinv(information[:f, :f], hermitian=True)
            @ information[:f, f:]
        )
    return (tested + tested.T) / 2.0, kind


def _embedded(small: Fit, large: Prepared, nesting: Nesting) -> GaussianObjective:
    """The larger model's objective at the smaller model's estimates."""
    objective = large.objective()
    theta = []
    for t, (mapping, (s, A)) in enumerate(zip(objective.maps, nesting.maps, strict=True)):
        q = mapping.basis.shape[1]
        Psi = np.zeros((q, q))
        if s is not None:
            back = np.linalg.solve(large.scaling.random[t], A)
            Psi = back @ (small.random_covariance[s] / small.sigma2) @ back.T
        theta.append(parameters_from_covariance(mapping, Psi))
    objective.set(np.concatenate(theta))
    return objective


def _is_cheap(large: Prepared, objective: GaussianObjective) -> bool:
    """Whether the expected information of all pairs of levels takes seconds, not minutes."""
    if not objective.engine.exact:
        return False
    if large.cross.n_blocks == 1:
        return True
    depths = components_of(large.cross).depths
    size = sum(J * q for J, q in large.cross.sizes)
    columns = sum(d * q for d, (_, q) in zip(depths, large.cross.sizes, strict=True))
    return size * columns <= EXPECTED_WORK


def _expected(
    large: Prepared, objective: GaussianObjective, directions: list[tuple[int, Array]]
) -> Array:
    """``(tr(K E K F) - tr(K E) tr(K F) / n) / 2`` with ``K = Z'V^-1 Z``."""
    grams = pair_grams(objective.engine, large.cross)
    sums = [objective.engine.information_sum(t) for t in range(large.cross.n_blocks)]
    traces = np.array([float(np.sum(sums[t] * E)) for t, E in directions])
    out = np.array([[trace(grams, t, E, s, F) for s, F in directions] for t, E in directions])
    return np.asarray((out - np.outer(traces, traces) / objective.n) / 2.0)


def _average(objective: GaussianObjective, directions: list[tuple[int, Array]]) -> Array:
    """Average information of directions ``(block, E)``, beta and sigma2 projected out."""
    profile = objective.profile
    sigma2, r2 = (1.0, 1.0) if profile is None else (profile.sigma2, profile.r2)
    g = objective.residual_scores()
    C = [np.zeros((*x.shape, len(directions))) for x in g]
    for k, (t, E) in enumerate(directions):
        C[t][:, :, k] = g[t] @ E
    GC = objective.engine.information_product(C)
    r, p = len(directions), objective.p
    FF, FX, Fe = np.zeros((r, r)), np.zeros((r, p)), np.zeros(r)
    for t, c in enumerate(C):
        flat = c.reshape(-1, r)
        FF += flat.T @ GC[t].reshape(-1, r)
        FX += flat.T @ objective.engine.cross(t)[:, :, :p].reshape(len(flat), p)
        Fe += flat.T @ g[t].reshape(-1)
    if p and profile is not None:
        Y = np.linalg.solve(profile.R.T, FX.T)
        FF -= Y.T @ Y
    return np.asarray((FF - np.outer(Fe, Fe) / r2) / sigma2 / 2.0)
