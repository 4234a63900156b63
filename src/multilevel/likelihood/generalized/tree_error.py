"""Importance sampling of the likelihood of two nested factors, one joint integral per cluster."""

from __future__ import annotations

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


def sample_tree(
    rows: TreeRows, ops: ModuleType, Lam: Array, fixed: Array, modes: tuple[Array, Array],
    rng: np.random.Generator, draws: int,
) -> SampledLikelihood:  # fmt: skip
    """Importance-sampled ``log L_g`` of every coarse cluster.

    Draws are Student (5 degrees of freedom) for the coarse effects and, given these, for each unit.

    Parameters
    ----------
    rows : sorted rows; ops : row kernels; Lam (Q, Q), fixed (D, n) as in ``BranchSearch``.
    modes : (J, q2) and (G, q3), where the search for the modes starts.
    draws : draws per coarse cluster, at least 8; an even number is used.

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
    log_weights = np.empty((len(modes[1]), pairs, 2))
    for branch in rows.branches(2 * pairs * fixed.shape[0]):
        search = BranchSearch(rows, branch, ops, Lam, fixed)
        u2, u3 = modes[0][branch.units].copy(), modes[1][branch.clusters].copy()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            found = search.run(u2, u3)
            if found is None:
                raise LikelihoodError(
                    "Importance sampling starts from the modes of the random effects.",
                    f"no mode in cluster {branch.clusters.start + (search.failed or 0)}",
                    "evaluate the objective first",
                )
            log_weights[branch.clusters] = _log_weights(search, found[0], u2, u3, rng, pairs)
    return SampledLikelihood(*log_mean(log_weights), 2 * pairs, log_weights)


def _log_weights(
    search: BranchSearch, point: BranchPoint, u2: Array, u3: Array, rng: np.random.Generator,
    pairs: int,
) -> Array:  # fmt: skip
    """Log importance weights (G, pairs, 2) of one run of clusters."""
    arrow, rows, branch = point.arrow, search.rows, search.branch
    J, G, N = len(u2), len(u3), 2 * pairs
    t2, density2 = paired_draws(rng, (J, pairs), u2.shape[1])
    t3, density3 = paired_draws(rng, (G, pairs), u3.shape[1])
    t2, t3 = t2.reshape(J, N, -1), t3.reshape(G, N, -1)
    d = t3 @ arrow.E3
    U2 = u2[:, None, :] + (t2 - d[arrow.cluster] @ arrow.F) @ arrow.E
    U3 = u3[:, None, :] + d
    U = np.concatenate([U2, U3[arrow.cluster]], axis=2)
    eta = np.empty((search.fixed.shape[0], N, branch.rows.stop - branch.rows.start))
    search.ops.predict_at(
        search.fixed, rows.Z, rows.ptr, rows.column_part, rows.random, branch.units.start,
        branch.units.stop, np.ascontiguousarray(U @ search.Lam.T), eta,
    )  # fmt: skip
    value = rows.sorted.likelihood.value(eta, branch.rows)
    starts = rows.ptr[branch.units] - rows.ptr[branch.units.start]
    own = np.add.reduceat(value, starts, axis=1).T - 0.5 * (U2 * U2).sum(axis=2)
    own -= density2.reshape(J, N)
    joint = arrow.sum_units(own) - 0.5 * (U3 * U3).sum(axis=2) - density3.reshape(G, N)
    size = arrow.sum_units(np.full(J, u2.shape[1])) + u3.shape[1]
    joint -= (arrow.half_log_det + 0.5 * size * np.log(2.0 * np.pi))[:, None]
    return np.asarray(joint.reshape(G, pairs, 2))
