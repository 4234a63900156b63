r"""The null distribution for two nested generalized fits: what may only grow, its information.

With one quantity on the boundary the mixture is 50:50. With several its weights come from their
information: outer products of cluster scores near the boundary of the larger model (new variances
and limits moved there, everything else at its estimates), everything else projected out. Scores of
a covariance ``G = LL'`` follow from those of ``L`` by the chain rule, which is regular at the small
positive ``L`` where they are taken. Where clusters are crossed, or too few, the plain chi-square
stands in: conservative. Source: Self & Liang 1987; Silvapulle & Sen 2005, chapter 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.generalized.boundary import column_sizes
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
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
    information = _information(large, fit, nesting)
    if information is None:
        return NullDistribution(
            (df,), (1.0,), f"chi2({df}), conservative: {k} of the parameters are on the boundary"
        )
    orders = tuple(len(p.cone) for p in nesting.random.parts if len(p.cone))
    if all(d == 1 for d in orders):
        found = several_variances(n_free, information, rng)
    else:
        rays = sum(len(p.rays) for p in nesting.random.parts) + len(nesting.limits)
        found = cone_of_matrices(n_free, orders + (1,) * rays, information, rng)
    text = f"{found.sentence} (information from cluster scores)"
    return NullDistribution(found.df, found.weights, text, found.squared_lengths)


def _information(
    large: GeneralizedPrepared, fit: GeneralizedFit, nesting: OutcomeNesting
) -> Array | None:
    """Efficient information of what may only grow (matrix parts, rays, limits), or None."""
    problem = large.problem
    psi = fit.psi.copy()
    for t, block in enumerate(problem.blocks):
        G = fit.random_covariance[t].copy()
        sizes = column_sizes(block)
        for part in (p for p in nesting.random.parts if p.block == t):
            own = slice(part.start, part.stop)
            G[own, own] = _near_boundary(G[own, own], part, sizes[own])
        psi[problem.theta_slices[t]] = parameters_from_covariance(block.structure, G)
    names = [p.spec.name for p in large.design.parts]
    limits = [fit.fixed_slices[names.index(name)].start for name in nesting.limits]
    for place, name in zip(limits, nesting.limits, strict=True):
        psi[place] = -LIMIT_ETA if name == "df" else LIMIT_ETA
    objective = make_objective(problem, fit.approximation.points or None)
    objective.value(psi)
    scores = objective.cluster_scores()
    if scores is None or len(scores) < CLUSTERS * scores.shape[1]:
        return None
    free, matrices, rays = _directions(large, psi, nesting, scores)
    signs = np.array([-1.0 if name == "df" else 1.0 for name in nesting.limits])
    tested = np.hstack([matrices, rays, scores[:, limits] * signs])
    fixed = np.setdiff1d(np.arange(problem.n_fixed), limits)
    others = np.hstack([scores[:, fixed], free])
    tested = tested / np.maximum(np.linalg.norm(tested, axis=0), 1e-300)
    others = others / np.maximum(np.linalg.norm(others, axis=0), 1e-300)
    left = tested - others @ np.linalg.lstsq(others, tested, rcond=None)[0]
    information = left.T @ left
    values = np.linalg.eigvalsh(information)
    return None if values[0] <= 1e-8 * values[-1] else np.asarray(information)


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


def _directions(
    large: GeneralizedPrepared, psi: Array, nesting: OutcomeNesting, scores: Array
) -> tuple[Array, Array, Array]:
    """Cluster scores along the free, matrix and ray directions of the covariances."""
    problem = large.problem
    free: list[Array] = []
    matrices: list[Array] = []
    rays: list[Array] = []
    factors = problem.factors(psi)
    for part in nesting.random.parts:
        block = problem.blocks[part.block]
        number = [(a, b) for a, b, _ in block.structure.terms].index((part.start, part.stop))
        local = block.structure.parameter_slices()[number]
        at = problem.theta_slices[part.block].start
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
        theta = scores[:, at + local.start : at + local.stop]
        found = np.linalg.lstsq(C.T, theta.T, rcond=None)[0].T
        f, c = len(part.free), len(cone)
        free.append(found[:, :f])
        matrices.append(found[:, f : f + c])
        rays.append(found[:, f + c :])
    empty = np.zeros((len(scores), 0))
    return (
        np.hstack([empty, *free]),
        np.hstack([empty, *matrices]),
        np.hstack([empty, *rays]),
    )
