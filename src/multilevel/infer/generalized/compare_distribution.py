r"""The null distribution for two nested generalized fits: what may only grow, its information.

With one quantity on the boundary the mixture is 50:50. With several its weights come from their
information near the boundary of the larger model (new variances and limits moved there, everything
else at its estimates), everything else projected out: outer products of cluster scores, or
differences of the gradient where clusters are crossed or few. Scores of a covariance ``G = LL'``
follow from those of ``L`` by the chain rule, which is regular at the small positive ``L`` where
they are taken. Where that information is singular the plain chi-square stands in: conservative.
Source: Self & Liang 1987; Silvapulle & Sen 2005, chapter 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.generalized.boundary import column_sizes
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.estimate.generalized.scale import scaling_matrix
from multilevel.infer.compare_nesting import ConePart
from multilevel.infer.generalized.compare_nesting import OutcomeNesting
from multilevel.infer.mixture import (
    NullDistribution,
    chi_square,
    cone_of_matrices,
    one_variance,
    several_variances,
)
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.model.covariance.structures import parameters_from_covariance

Array = NDArray[np.float64]
NEAR = 0.05  # standard deviation (scaled columns) at which new variances are looked at
LIMIT_ETA = -6.0  # predictor at which a part counts as being at its limit
CLUSTERS = 3  # clusters per parameter that outer products need


def outcome_null(
    large: GeneralizedPrepared,
    fit: GeneralizedFit,
    nesting: OutcomeNesting,
    df: int,
    rng: np.random.Generator,
) -> NullDistribution:
    """Distribution of -2 delta LL if the smaller model holds.

    Parameters
    ----------
    large, fit : the larger model.
    df : parameters that it has more.
    rng : for mixtures without a closed form.
    """
    k, n_free = nesting.n_one_sided, df - nesting.n_boundary
    if k == 0:
        return chi_square(df)
    if k == 1:
        return one_variance(n_free)
    found_information = _information(large, fit, nesting)
    if found_information is None:
        return NullDistribution(
            (df,), (1.0,), f"chi2({df}), conservative: {k} of the parameters are on the boundary"
        )
    information, kind = found_information
    orders = tuple(len(p.cone) for p in nesting.random.parts if len(p.cone))
    if all(d == 1 for d in orders):
        found = several_variances(n_free, information, rng)
    else:
        rays = sum(len(p.rays) for p in nesting.random.parts) + len(nesting.limits)
        found = cone_of_matrices(n_free, orders + (1,) * rays, information, rng)
    text = f"{found.sentence} (information from {kind})"
    return NullDistribution(found.df, found.weights, text, found.squared_lengths)


def _information(
    large: GeneralizedPrepared, fit: GeneralizedFit, nesting: OutcomeNesting
) -> tuple[Array, str] | None:
    """Efficient information of what may only grow (matrix parts, rays, limits), and its source;
    None where it is singular."""
    problem = large.problem
    psi = fit.psi.copy()
    for t, block in enumerate(problem.blocks):
        G = fit.random_covariance[t].copy()
        sizes = column_sizes(block)
        for part in (p for p in nesting.random.parts if p.block == t):
            own = slice(part.start, part.stop)
            G[own, own] = _near_boundary(G[own, own], part, sizes[own])
        psi[problem.theta_slices[t]] = parameters_from_covariance(block.structure, G)
    limits = _limit_places(large, fit, nesting)
    for place, sign in limits.items():
        psi[place] = sign * LIMIT_ETA
    objective = make_objective(problem, fit.approximation.points or None)
    objective.value(psi)
    T, n_tested = _coordinates(large, psi, nesting, limits)
    scores = objective.cluster_scores()
    if scores is not None and len(scores) >= CLUSTERS * scores.shape[1]:
        whole, kind = T.T @ (scores.T @ scores) @ T, "cluster scores"
    else:
        whole, kind = _differenced(large, objective, psi, nesting, limits), "differenced gradients"
    if np.any(np.diag(whole) <= 0.0):
        return None
    size = 1.0 / np.sqrt(np.diag(whole))
    whole = whole * np.outer(size, size)
    o = len(whole) - n_tested
    rest = np.linalg.pinv(whole[:o, :o], hermitian=True)
    information = whole[o:, o:] - whole[o:, :o] @ rest @ whole[:o, o:]
    values = np.linalg.eigvalsh(information)
    if values[0] <= 1e-8 * max(float(values[-1]), 1e-300):
        return None
    return np.asarray((information + information.T) / 2.0), kind


def _limit_places(
    large: GeneralizedPrepared, fit: GeneralizedFit, nesting: OutcomeNesting
) -> dict[int, float]:
    """Where parts at a limit stand in ``psi``, and the side of the limit (1: minus infinity)."""
    names = [p.spec.name for p in large.design.parts]
    return {
        int(fit.fixed_slices[names.index(name)].start): -1.0 if name == "df" else 1.0
        for name in nesting.limits
    }


def _differenced(
    large: GeneralizedPrepared,
    objective: GeneralizedObjective,
    psi: Array,
    nesting: OutcomeNesting,
    limits: dict[int, float],
) -> Array:
    """Observed information in the coordinates of ``_coordinates``, by central differences."""
    T, _ = _coordinates(large, psi, nesting, limits)
    scale = np.abs(np.diag(scaling_matrix(large.problem)))
    out = np.empty((T.shape[1], T.shape[1]))
    for k in range(T.shape[1]):
        step = 0.05 * NEAR / float(np.max(np.abs(T[:, k]) / scale))
        sides = []
        for sign in (1.0, -1.0):
            moved = psi + sign * step * T[:, k]
            objective.value(moved)
            sides.append(_coordinates(large, moved, nesting, limits)[0].T @ objective.gradient())
        out[k] = (sides[0] - sides[1]) / (4.0 * step)  # half the criterion is -log L
    return (out + out.T) / 2.0


def _near_boundary(G: Array, part: ConePart, sizes: Array) -> Array:
    """The covariance of a term with its new variances small and positive."""
    if len(part.cone):
        kept = np.eye(len(G)) - part.cone.T @ part.cone
        small = float(NEAR / sizes.max()) ** 2
        return np.asarray(kept @ G @ kept + small * part.cone.T @ part.cone)
    out = G
    small = float(NEAR / sizes.max()) ** 2
    for S in part.rays:  # directions of one structure are orthogonal
        out = out + (small - float(np.sum(out * S)) / float(np.sum(S * S))) * S
    return np.asarray(out)


def _coordinates(
    large: GeneralizedPrepared, psi: Array, nesting: OutcomeNesting, limits: dict[int, float]
) -> tuple[Array, int]:
    """``dpsi/dx`` (P, P): fixed effects, free directions, then the tested ones: matrix parts, rays,
    limits on their natural scale. Also how many are tested."""
    problem = large.problem
    P = problem.n_parameters
    unit = np.eye(P)
    fixed = [unit[k] for k in range(problem.n_fixed) if k not in limits]
    free: list[Array] = []
    matrices: list[Array] = []
    rays: list[Array] = []
    factors = problem.factors(psi)
    for part in nesting.random.parts:
        block = problem.blocks[part.block]
        number = [(a, b) for a, b, _ in block.structure.terms].index((part.start, part.stop))
        local = block.structure.parameter_slices()[number]
        at = problem.theta_slices[part.block].start
        if block.structure.curve(number) is not None:  # not tested: its parameters are free
            free += list(unit[at + local.start : at + local.stop])
            continue
        own = slice(part.start, part.stop)
        L = factors[part.block][own, own]
        E = block.structure.basis[local][:, own, own]
        cone = []
        for a in range(len(part.cone)):
            for b in range(a + 1):
                u, v = part.cone[a], part.cone[b]
                cone.append(np.outer(u, u) if a == b else np.outer(u, v) + np.outer(v, u))
        S = [*part.free, *cone, *part.rays]
        A = np.stack([one.ravel() for one in S], axis=1)
        slopes = np.stack([(e @ L.T + L @ e.T).ravel() for e in E], axis=1)
        C = np.linalg.lstsq(A, slopes, rcond=None)[0]  # dG/dtheta_m = sum_i C_im S_i
        columns = np.zeros((len(S), P))
        columns[:, at + local.start : at + local.stop] = np.linalg.pinv(C).T
        f, c = len(part.free), len(cone)
        free += list(columns[:f])
        matrices += list(columns[f : f + c])
        rays += list(columns[f + c :])
    ends = [sign * np.exp(-sign * psi[k]) * unit[k] for k, sign in limits.items()]
    tested = [*matrices, *rays, *ends]
    return np.array([*fixed, *free, *tested]).T, len(tested)
