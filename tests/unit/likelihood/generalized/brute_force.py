"""-2 log L of small problems by dense quadrature around nothing: the definition, slowly.

Independent of the engines: dense matrices by row, a trapezoid grid over ``u`` in [-8.5, 8.5]^q,
which is accurate to about 1e-12 for smooth integrands that die out (Trefethen & Weideman 2014).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp


def axis_grid(points):
    t = np.linspace(-8.5, 8.5, points)
    return t, -0.5 * t * t - 0.5 * np.log(2.0 * np.pi) + np.log(t[1] - t[0])


def log_prior(points, q):
    """Nodes (N, q) and log prior mass (N,)."""
    t, log_mass = axis_grid(points)
    nodes = np.stack(np.meshgrid(*([t] * q), indexing="ij"), -1).reshape(-1, q)
    masses = np.stack(np.meshgrid(*([log_mass] * q), indexing="ij"), -1).reshape(-1, q)
    return nodes, masses.sum(axis=1)


def log_density(problem, psi, rows, *effects):
    """Sum of log densities of ``rows`` for N vectors ``u`` of each block (N, q_t)."""
    family = problem.row_likelihood(np.asarray(rows, dtype=np.intp))
    eta = np.repeat(problem.fixed_predictors(psi)[:, None, rows], len(effects[0]), axis=1)
    for block, Lam, u in zip(problem.blocks, problem.factors(psi), effects, strict=True):
        b = u @ Lam.T
        for c, part in enumerate(block.parts):
            eta[part] += np.outer(b[:, c], block.columns[rows, c])
    return family.value(eta).sum(axis=-1)


def one_factor(problem, psi, points=201):
    block = problem.blocks[0]
    nodes, log_mass = log_prior(points, block.columns.shape[1])
    total = 0.0
    for level in range(block.n_levels):
        rows = np.flatnonzero(block.codes == level)
        if rows.size:
            total += logsumexp(log_mass + log_density(problem, psi, rows, nodes))
    return -2.0 * total


def two_factors(problem, psi, points=121):
    """A chain of a fine factor (block 0) in a coarse one (block 1)."""
    fine, coarse = problem.blocks
    inner, inner_mass = log_prior(points, fine.columns.shape[1])
    outer, outer_mass = log_prior(points, coarse.columns.shape[1])
    total = 0.0
    for level in range(coarse.n_levels):
        rows = np.flatnonzero(coarse.codes == level)
        log_sum = outer_mass.copy()
        for unit in np.unique(fine.codes[rows]):
            own = rows[fine.codes[rows] == unit]
            for k, node in enumerate(outer):
                joint = log_density(
                    problem, psi, own, inner, np.broadcast_to(node, (len(inner), node.size))
                )
                log_sum[k] += logsumexp(inner_mass + joint)
        total += logsumexp(log_sum)
    return -2.0 * total


def chain(problem, psi, points=41):
    """Nested factors of any depth, finest first: a grid over each factor's effects, recursively."""
    grids = [log_prior(points, block.columns.shape[1]) for block in problem.blocks]

    def integral(t, rows, above):
        """``log`` integral of a unit of factor t at N settings of its ancestors' effects."""
        nodes, mass = grids[t]
        N, K = len(above[0]) if above else 1, len(nodes)
        own = [np.tile(nodes, (N, 1)), *(np.repeat(a, K, axis=0) for a in above)]
        if t == 0:
            inside = log_density(problem, psi, rows, *own)
        else:
            codes = problem.blocks[t - 1].codes[rows]
            inside = sum(integral(t - 1, rows[codes == c], own) for c in np.unique(codes))
        return logsumexp(np.reshape(inside, (N, K)) + mass, axis=1)

    top = problem.blocks[-1].codes
    last = len(problem.blocks) - 1
    return -2.0 * sum(float(integral(last, np.flatnonzero(top == g), [])[0]) for g in set(top))


def gaussian_exact(problem, psi):
    """Exact -2 log L of Gaussian responses: mean part 0, log standard deviation part 1."""
    eta = problem.fixed_predictors(psi)
    V = np.diag(np.exp(2.0 * eta[1]))
    for block, Lam in zip(problem.blocks, problem.factors(psi), strict=True):
        same = block.codes[:, None] == block.codes[None, :]
        V += same * (block.columns @ Lam @ Lam.T @ block.columns.T)
    e = problem.response.y - eta[0]
    return float(
        problem.n * np.log(2.0 * np.pi) + np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e)
    )
