"""Dense brute force for Laplace's approximation, and small random generalized problems."""

from __future__ import annotations

import numpy as np

from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.row import Response
from multilevel.model.covariance.structures import factor_map
from tests.support.oracle import random_rows
from tests.support.row_families import FAMILIES

#: How the columns of a block fall on two parts: all on one, or every second column on the other.
SPREADS = {
    "mean": lambda q: (0,) * q,
    "scale": lambda q: (1,) * q,
    "both": lambda q: tuple(a % 2 for a in range(q)),
}


def random_problem(kind, family="logit", seed=1, structure="unstructured", spread="mean"):
    """A small problem of a kind of ``oracle.random_rows``, response drawn to suit the family."""
    rows = random_rows(kind, seed)
    rng = np.random.default_rng(seed + 100)
    eta = 0.6 * (rows.y - rows.y.mean())
    if family == "logit":
        y = (rng.random(len(eta)) < 1.0 / (1.0 + np.exp(-eta))).astype(float)
    elif family == "poisson":
        y = rng.poisson(np.exp(0.5 * eta)).astype(float)
    else:
        y = eta + rng.standard_normal(len(eta))
    rows_class = FAMILIES[family]
    fixed = [FixedPart(np.asfortranarray(rows.X), 0.1 * rng.standard_normal(len(y)))]
    if rows_class.n_parts == 2:
        fixed.append(FixedPart(np.asfortranarray(rows.X[:, :1])))
    blocks = []
    for codes, columns in rows.blocks:
        q = columns.shape[1]
        parts = SPREADS[spread](q)
        shape = structure if q > 1 else "unstructured"
        blocks.append(
            EffectBlock(
                codes.astype(np.int32),
                int(codes.max()) + 1,
                np.asfortranarray(columns),
                parts,
                factor_map(((q, shape),)),
            )
        )
    return GeneralizedProblem(Response(y), tuple(fixed), tuple(blocks), rows_class)


def random_psi(problem, seed=5, scale=0.8):
    """Parameters away from zero; log standard deviations near zero."""
    rng = np.random.default_rng(seed)
    psi = rng.uniform(-0.4, 0.4, problem.n_parameters)
    psi[problem.n_fixed :] = rng.uniform(0.3, scale, problem.n_parameters - problem.n_fixed)
    return psi


def dense_Z(problem, psi):
    """``Z~`` (R, n, N), unknowns block after block, level after level."""
    n, random = problem.n, problem.random_parts
    wholes = []
    for block, factor in zip(problem.blocks, problem.factors(psi), strict=True):
        J, q = block.n_levels, len(block.parts)
        Z = np.zeros((len(random), n, J * q))
        for a, part in enumerate(block.parts):
            Z[random.index(part), np.arange(n), block.codes * q + a] = block.columns[:, a]
        wholes.append(Z @ np.kron(np.eye(J), factor))
    return np.concatenate(wholes, axis=2)


class DenseLaplace:
    """Criterion, mode and ``H`` at one psi by definition."""

    def __init__(self, problem, psi, start=None):
        self.problem, self.psi = problem, psi
        self.rows = problem.row_likelihood()
        self.Z = dense_Z(problem, psi)
        self.fixed = problem.fixed_predictors(psi)
        self.u = np.zeros(self.Z.shape[2]) if start is None else start
        self.H = self._search()
        sign, self.logdet = np.linalg.slogdet(self.H)
        assert sign > 0
        assert np.linalg.eigvalsh(self.H)[0] > 0
        self.criterion = -2.0 * self.h(self.u) + self.logdet

    def eta(self, u):
        eta = self.fixed.copy()
        eta[list(self.problem.random_parts)] += self.Z @ u
        return eta

    def h(self, u):
        return self.rows.newton(self.eta(u))[0].sum() - u @ u / 2.0

    def pieces(self, u):
        _, first, second = self.rows.newton(self.eta(u))
        g = np.einsum("rna,rn->a", self.Z, first) - u
        H = np.eye(len(u)) - np.einsum("rna,rsn,snb->ab", self.Z, second, self.Z)
        return g, H

    def _search(self):
        for _ in range(500):
            g, H = self.pieces(self.u)
            if np.abs(g).max() < 1e-12:
                break
            low = np.linalg.eigvalsh(H)[0]
            shifted = H if low > 0.05 else H + (0.5 - low) * np.eye(len(g))
            step, size = np.linalg.solve(shifted, g), 1.0
            while not self.h(self.u + size * step) >= self.h(self.u) - 1e-11:
                size /= 2.0
            self.u = self.u + size * step
        assert np.abs(self.pieces(self.u)[0]).max() < 1e-9
        return self.pieces(self.u)[1]


def differences(function, psi, step=2e-5):
    """Central differences (P,), fourth order."""
    out = np.empty(len(psi))
    for k in range(len(psi)):
        e = np.zeros(len(psi))
        e[k] = step
        near = function(psi + e) - function(psi - e)
        far = function(psi + 2 * e) - function(psi - 2 * e)
        out[k] = (8.0 * near - far) / (12.0 * step)
    return out
