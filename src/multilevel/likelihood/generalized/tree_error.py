"""Importance sampling of the likelihood of nested factors, one joint integral per cluster."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.importance import (
    LEAST_PAIRS,
    SampledLikelihood,
    log_mean,
    paired_draws,
)
from multilevel.likelihood.generalized.tree_modes import BranchPoint, BranchSearch
from multilevel.likelihood.generalized.tree_rows import TreeRows

Array = NDArray[np.float64]

AFFORDABLE_JOINT = 3_000  # joint nodes up to which "more points" is preferred to sampling
AFFORDABLE_WORK = 10_000_000  # rows x joint nodes, from FEW_NODES on
FEW_NODES = 400  # as cheap as the usual number of draws


def finer_tree_points(
    points: Sequence[int], widths: Sequence[int], n: int
) -> tuple[int, ...] | None:
    """Points of an affordable finer grid for ``n`` rows, by factor, or None."""
    if max(points) > 1:
        candidates = [tuple(2 * k + 1 for k in points)]
        candidates += [tuple(k + more for k in points) for more in (4, 2)]
    else:
        candidates = [tuple(k for _ in points) for k in (9, 7, 5)]
    for wanted in candidates:
        nodes = prod(k**q for k, q in zip(wanted, widths, strict=True))
        affordable = nodes <= AFFORDABLE_JOINT and nodes * n <= AFFORDABLE_WORK
        if nodes <= FEW_NODES or affordable:
            return wanted
    return None


def sample_tree(
    rows: TreeRows, ops: ModuleType, Lam: Array, fixed: Array, modes: Sequence[Array],
    rng: np.random.Generator, draws: int,
) -> SampledLikelihood:  # fmt: skip
    """Importance-sampled ``log L_g`` of every coarsest cluster.

    Draws are Student (5 degrees of freedom) for the coarsest effects and, given the coarser ones,
    for every unit below.

    Parameters
    ----------
    rows : sorted rows; ops : row kernels; Lam (Q, Q), fixed (D, n) as in ``BranchSearch``.
    modes : (J_t, q_t) by factor, where the search for the modes starts.
    draws : draws per coarsest cluster, at least 8; an even number is used.

    Raises
    ------
    LikelihoodError : fewer than 8 draws, or no modes.
    """
    pairs = draws // 2
    if pairs < LEAST_PAIRS:
        raise LikelihoodError(
            f"Importance sampling needs at least {2 * LEAST_PAIRS} draws in each cluster.",
            f"{draws} draws",
            "ask for a few hundred",
        )
    log_weights = np.empty((len(modes[-1]), pairs, 2))
    for branch in rows.branches(2 * pairs * fixed.shape[0]):
        search = BranchSearch(rows, branch, ops, Lam, fixed)
        u = [own[units].copy() for own, units in zip(modes, branch.units, strict=True)]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            found = search.run(u)
            if found is None:
                raise LikelihoodError(
                    "Importance sampling starts from the modes of the random effects.",
                    f"no mode in cluster {branch.clusters.start + (search.failed or 0)}",
                    "evaluate the objective first",
                )
            log_weights[branch.clusters] = _log_weights(search, found[0], u, rng, pairs)
    return SampledLikelihood(*log_mean(log_weights), 2 * pairs, log_weights)


def _log_weights(
    search: BranchSearch, point: BranchPoint, u: list[Array], rng: np.random.Generator, pairs: int
) -> Array:
    """Log importance weights (G, pairs, 2) of one run of clusters."""
    arrow, shape, rows, at = point.arrow, search.shape, search.rows, search.branch.rows
    N, T = 2 * pairs, search.shape.n_levels
    drawn = [paired_draws(rng, (len(own), pairs), own.shape[1]) for own in u]
    above = np.zeros((len(u[-1]), N, 0))
    joint = above
    priors: list[Array] = []
    for t in reversed(range(T)):
        noise, density = drawn[t]
        noise = noise.reshape(len(u[t]), N, -1)
        move = (noise - above @ arrow.F[t]) @ arrow.E[t]
        effects = u[t][:, None, :] + move
        priors.insert(0, -0.5 * (effects * effects).sum(axis=2) - density.reshape(len(u[t]), N))
        joint = np.concatenate([move, above], axis=2)
        if t:
            above = joint[shape.parents[t - 1]]
    U = shape.join(u)[:, None, :] + joint
    eta = np.empty((search.fixed.shape[0], N, at.stop - at.start))
    effects_at = np.ascontiguousarray(U @ search.Lam.T)
    search.ops.predict_at(search.fixed, *search.design, effects_at, eta)
    value = rows.sorted.likelihood.value(eta, at)
    units = search.branch.units[0]
    starts = rows.ptr[units] - rows.ptr[units.start]
    total = np.add.reduceat(value, starts, axis=1).T
    for t, prior in enumerate(priors):
        total = total + prior
        if t < T - 1:
            total = shape.up(total, t)
    size = np.zeros(len(u[-1]))
    for t, own in enumerate(u):
        size += shape.to_top(np.full(len(own), float(own.shape[1])), t)
    total = total - (arrow.half_log_det + 0.5 * size * np.log(2.0 * np.pi))[:, None]
    return np.asarray(total.reshape(len(total), pairs, 2))
