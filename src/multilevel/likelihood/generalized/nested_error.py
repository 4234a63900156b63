"""How far the approximation of a one-factor model is from the exact likelihood.

Ladder: more quadrature points while the grid is affordable, else importance sampling, else the
second-order term of the Laplace expansion. Sources: Shun & McCullagh 1995; Raudenbush, Yang &
Yosef 2000 (second-order term); Pinheiro & Bates 1995 (more points).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.cluster_objective import ClusterObjective
from multilevel.likelihood.generalized.grid import MAX_NODES
from multilevel.likelihood.generalized.importance import sample_likelihood
from multilevel.likelihood.generalized.objective import ErrorEstimate, off_words

Array = NDArray[np.float64]

AFFORDABLE = 1024  # nodes in each cluster up to which "more points" is preferred
LAPLACE_CHECK = {1: 15, 2: 9, 3: 7}  # points that check a Laplace value, by number of effects
STEP = 1e-3  # of the differences of third derivatives


def more_points(points: int, q: int) -> int | None:
    """Points per dimension that check ``points``, or None if no larger grid is affordable."""
    if points == 1:
        return LAPLACE_CHECK.get(q)
    for wanted in (2 * points + 1, points + 2):
        if wanted**q <= AFFORDABLE:
            return wanted
    return points + 2 if q <= 2 and (points + 2) ** q <= MAX_NODES else None


def compare_with_more(criterion: float, finer: float, points: int, wanted: int) -> ErrorEstimate:
    """The error as the difference from a finer rule at the same parameters."""
    error = criterion - finer
    name = "Laplace" if points == 1 else f"{points} points"
    sentence = (
        f"-2 log-likelihood by {name} is {off_words(error)} "
        f"against {wanted} quadrature points for each random effect, at the same parameters."
    )
    return ErrorEstimate(error, 0.0, "more points", sentence)


def sampled_error(
    objective: ClusterObjective, criterion: float, rng: np.random.Generator, draws: int
) -> ErrorEstimate:
    """The error against importance sampling with its Monte Carlo standard error."""
    sampled = sample_likelihood(objective, rng, draws)
    error = criterion - sampled.criterion
    sentence = (
        f"-2 log-likelihood differs by {error:+.3g} (Monte Carlo standard error "
        f"{sampled.std_error:.2g}) from importance sampling with {sampled.draws} draws in each "
        "cluster."
    )
    return ErrorEstimate(error, sampled.std_error, "importance sampling", sentence)


def second_order_error(objective: ClusterObjective) -> ErrorEstimate:
    """The error of the Laplace approximation as its second-order term."""
    error = 2.0 * float(second_order_terms(objective).sum())
    sentence = (
        f"The second-order term of the Laplace expansion changes -2 log-likelihood by "
        f"{-error:+.3g}."
    )
    return ErrorEstimate(error, 0.0, "second-order Laplace", sentence)


def _tensor(values: Array, Z: Array, starts: NDArray[np.int64]) -> Array:
    """``sum_i v_i[c..] Z_ci ...`` by cluster; values (q, ..., q, m), one axis per factor."""
    order = values.ndim - 1
    product = values
    for axis in range(order):
        shape = [1] * order
        shape[axis] = Z.shape[0]
        product = product * Z.reshape((*shape, Z.shape[1]))
    return np.moveaxis(np.add.reduceat(product, starts, axis=-1), -1, 0)


def second_order_terms(objective: ClusterObjective) -> Array:
    """Second-order terms (J,) of ``log L_j`` at the point last set; truth is about Laplace + term.

    ``h4_abcd S_ab S_cd / 8 + h3_abc h3_def (S_ab S_cf S_de / 8 + S_ad S_be S_cf / 12)`` with
    ``S = H^-1``; fourth derivatives are differences of third ones.
    """
    s, rows = objective.state, objective.rows
    family, part, random = rows.sorted.likelihood, rows.column_part, rows.random
    out = np.empty(rows.n_clusters)
    for chunk in objective.chunks:
        here = slice(chunk.start, chunk.stop)
        Z = np.ascontiguousarray(rows.Z[:, chunk.rows])
        starts = rows.ptr[here] - rows.ptr[chunk.start]
        counts = np.diff(rows.ptr[chunk.start : chunk.stop + 1])
        effects = np.repeat(s.u[here] @ s.Lam.T, counts, axis=0)
        eta = s.fixed[:, chunk.rows].copy()
        for c, r in enumerate(part):
            eta[random[r]] += Z[c] * effects[:, c]
        own = np.ix_(part, part, random[part])
        third = family.derivatives(eta, chunk.rows).third[own]
        fourth = np.empty((*third.shape[:3], len(part), Z.shape[1]))
        for r in range(len(random)):
            shift = np.zeros_like(eta)
            shift[random[r]] = STEP
            up = family.derivatives(eta + shift, chunk.rows).third[own]
            down = family.derivatives(eta - shift, chunk.rows).third[own]
            fourth[:, :, :, part == r] = ((up - down) / (2.0 * STEP))[:, :, :, None]
        S = s.Lam @ s.Linv[here].transpose(0, 2, 1) @ s.Linv[here] @ s.Lam.T
        T3, T4 = _tensor(third, Z, starts), _tensor(fourth, Z, starts)
        out[here] = np.einsum("jabcd,jab,jcd->j", T4, S, S) / 8.0
        pull = np.einsum("jabc,jab->jc", T3, S)
        out[here] += np.einsum("jc,jcf,jf->j", pull, S, pull) / 8.0
        turned = np.einsum("jabc,jad,jbe,jcf->jdef", T3, S, S, S, optimize=True)
        out[here] += np.einsum("jdef,jdef->j", turned, T3) / 12.0
    return out
