r"""Curvature of a Laplace approximation from the linear mixed model that it is at its modes.

At the modes the model looks like a linear one with weights ``W``: ``V = W^-1 + Z Psi Z'`` and
``V^-1(working response - X beta) = l'``. Its information stands in where outer products of scores
cannot (crossed designs have no independent clusters):

    I_beta,beta  = X'WX - X'WZ~ H^-1 Z~'WX        (= X'V^-1 X)
    I_theta,theta = f_k'V^-1 f_l / 2,   f_k = Z dPsi/dtheta_k Z'l'     (average information)

All parts together: ``W`` is then the joint matrix of second derivatives by row. The dependence of
``W`` on the parameters is left out, so this is near the curvature, not equal to it. Sources:
Breslow & Clayton 1993 (working model); Gilmour, Thompson & Cullis 1995 (average information).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.blocks.row_kernels import add_transposed
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.row import RowDerivatives, RowLikelihood
from multilevel.likelihood.generalized.row_layout import RowLayout
from multilevel.likelihood.generalized.storage import Storage

Array = NDArray[np.float64]
STEP = 1e-4  # of the differences that give second derivatives of parts without random effects


def joint_weights(rows: RowLikelihood, eta: Array, found: RowDerivatives) -> Array:
    """``-d2l/deta_d deta_e`` (D, D, n): the contract's where a part is random, else differences.

    ``found``: the derivatives at ``eta`` (D, n).
    """
    D, n = eta.shape
    W = np.empty((D, D, n))
    random = list(rows.random)
    W[random] = -found.second
    W[:, random] = -found.second.transpose(1, 0, 2)
    for d in sorted(set(range(D)) - set(random)):
        shift = np.zeros_like(eta)
        shift[d] = STEP
        up, down = rows.derivatives(eta + shift).first, rows.derivatives(eta - shift).first
        rest = [e for e in range(D) if e not in random]
        W[d, rest] = -(up - down)[rest] / (2.0 * STEP)
    return W


def working_information(
    problem: GeneralizedProblem,
    layout: RowLayout,
    rows: RowLikelihood,
    storage: Storage,
    index: NDArray[np.int32],
    Z: Array,
    eta: Array,
    found: RowDerivatives,
    factors: Sequence[Array],
    slopes: Sequence[Array],
) -> Array:
    """Approximate ``-d2 log L / d psi d psi'`` (P, P).

    ``Z`` (R, n, Q) scaled, ``eta`` (D, n) and the derivatives ``found`` at the modes, rows
    sorted; ``storage`` holds the factor there; ``factors`` are ``Lambda_t``
    and ``slopes`` their derivatives in theta.
    """
    W = joint_weights(rows, eta, found)
    random = list(rows.random)
    pushed = _theta_columns(problem, layout, found.first[random], factors, slopes)
    P, p, D = problem.n_parameters, problem.n_fixed, len(eta)
    columns, owners = [], []
    for d, (part, s) in enumerate(zip(problem.fixed, problem.fixed_slices, strict=True)):
        owner = np.arange(s.start, s.stop)
        columns.append(part.X[layout.order])
        if d in random:
            columns[d] = np.hstack([columns[d], pushed[random.index(d)]])
            owner = np.append(owner, np.arange(p, P))
        owners.append(owner)
    out = np.zeros((P, P))
    crossed = np.zeros((P, layout.n_effects))
    for e in range(D):
        for d in range(e + 1):
            block = columns[d].T @ (W[d, e][:, None] * columns[e])
            out[np.ix_(owners[d], owners[e])] += block
            if d < e:
                out[np.ix_(owners[e], owners[d])] += block.T
        for k, column in zip(owners[e], columns[e].T, strict=True):
            add_transposed(Z, index, np.ascontiguousarray(W[random, e] * column), crossed[k])
    out -= crossed @ storage.solve(np.ascontiguousarray(crossed.T))
    out[p:, p:] *= 0.5
    out[p:, :p] = out[:p, p:] = 0.0
    return np.asarray((out + out.T) / 2.0)


def _theta_columns(
    problem: GeneralizedProblem,
    layout: RowLayout,
    first: Array,
    factors: Sequence[Array],
    slopes: Sequence[Array],
) -> Array:
    """``f_k`` by random part (R, n, r), rows sorted; ``first`` (R, n) is ``l'``."""
    out = []
    for t, (block, L, by_theta) in enumerate(zip(problem.blocks, factors, slopes, strict=True)):
        slots = [(layout.raw[:, at], layout.part[at], codes) for at, codes in layout.slots(t)]
        score = np.zeros((block.n_levels, block.columns.shape[1]))
        for z, part, codes in slots:
            for a in range(z.shape[1]):
                score[:, a] += np.bincount(codes, z[:, a] * first[part[a]], block.n_levels)
        relation = layout.relations[t] if layout.relations else None
        if relation is not None:
            score = relation.colour(relation.combine(score))
        for E in by_theta:
            shares = np.zeros((layout.n_random, layout.n))
            for z, part, codes in slots:
                values = z * (score @ (E @ L.T + L @ E.T))[codes]
                for r in range(layout.n_random):
                    shares[r] += values[:, part == r].sum(axis=1)
            out.append(shares)
    return np.stack(out, axis=2)
