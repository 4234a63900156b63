"""Judges of models whose variances are the question: scale effects, related levels, occasions.

**Location and scale.** Location and scale effect of a cluster are summed over a fixed square grid,
0.15 standard deviations apart, out to 6 (the trapezoidal rule, whose error falls faster than any
power of the step for such integrands): no adaptation, no shortcut.

**Related levels.** With ``Psi = psi A`` and ``N = Z'Z`` of a pedigree (one level a row),
``|V| = |I + psi N^.5 A N^.5|``; with several levels a row ``|V| = |I + psi Z'Z|``. Both are one
dense matrix; ``A`` comes from the tabular rules (Henderson 1976).

**Occasions.** AR(1) effects of the occasions of a unit beside independent residuals: dense
matrices, unit by unit.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import gammaln

from benchmarks.columns import Column
from benchmarks.criterion import Estimates, Judge
from benchmarks.criterion_structured import StructuredJudge
from benchmarks.levels import level_codes
from benchmarks.models import Model

Array = NDArray[np.float64]
_STEP, _REACH = 0.15, 6.0


class OccasionsJudge(StructuredJudge):
    """``extra``: the autocorrelation, and the variance of the effects over the residual one."""

    def _correlation(self, time: NDArray[np.int64], extra: Array) -> Array:
        lag = np.abs(time[:, None] - time[None])
        return np.asarray(np.eye(len(time)) + extra[1] * extra[0] ** lag, dtype=np.float64)


class LocationScaleJudge:
    """``G[0]`` (2, 2): location and scale effect; ``extra``: coefficients of the log variance."""

    def __init__(self, table: dict[str, Column], model: Model) -> None:
        self.y = np.asarray(table[model.response], float)
        ones = np.ones(len(self.y))
        self.X = np.column_stack([ones, *(table[name] for name in model.fixed)])
        self.W = np.column_stack([ones, *(table[name] for name in model.scale)])
        self.codes = level_codes(table, model.terms[0].group)
        self.model = model

    def criterion(self, found: Estimates) -> float:
        """-2 log-likelihood at the estimates."""
        root = np.linalg.cholesky(found.G[0])
        fixed, scale = self.X @ found.beta, self.W @ found.extra
        J = int(self.codes.max()) + 1
        nodes = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
        total = np.full(J, -np.inf)
        for first in nodes:
            for second in nodes:
                location = root[0, 0] * first
                spread = root[1, 0] * first + root[1, 1] * second
                rows = self._rows(fixed + location, scale + spread)
                at = np.bincount(self.codes, rows, J) - 0.5 * (first**2 + second**2)
                total = np.logaddexp(total, at)
        return float(-2.0 * (total + 2.0 * log(_STEP) - log(2.0 * pi)).sum())

    def _rows(self, eta: Array, log_variance: Array) -> Array:
        """Log density of each row; gamma: mean ``exp(eta)``, variance ``phi`` times its square."""
        if self.model.family == "location_scale":
            distance = (self.y - eta) ** 2 * np.exp(-log_variance)
            return -0.5 * (log(2 * pi) + log_variance + distance)
        shape = np.exp(-log_variance)
        value = shape * (np.log(shape) - eta + np.log(self.y) - self.y * np.exp(-eta))
        return np.asarray(value - np.log(self.y) - gammaln(shape))


class RelatedJudge(Judge):
    """``G[0]`` (1, 1): variance of a level whose diagonal entry in ``A`` is one."""

    def __init__(self, table: dict[str, Column], model: Model) -> None:
        n = len(table[model.response])
        X = np.column_stack([np.ones(n), *(table[name] for name in model.fixed)])
        self.model, self.n, self.p = model, n, int(X.shape[1])
        self.W = np.column_stack([X, table[model.response]])
        relation = model.relation
        if relation is None:
            raise SystemExit("this judge is for related levels")
        if relation.kind == "mm":
            Z = memberships(table, relation.columns, relation.others)
            self.core = (Z.T @ Z).toarray()
            self.right = Z.T @ self.W
            self.within = self.W.T @ self.W
            return
        animal, sire, dam = (np.asarray(table[k]) for k in (*relation.columns, *relation.others))
        J = int(animal.max())
        animal = animal - 1
        parents = np.full((J, 2), -1)
        parents[animal] = np.column_stack([sire, dam]) - 1
        half = np.sqrt(np.bincount(animal, minlength=J).astype(float))
        self.core = relationships(parents)
        self.core *= half[:, None]
        self.core *= half
        Z = sp.csr_matrix((np.ones(n), (np.arange(n), animal)), shape=(n, J))
        self.right = (Z.T @ self.W) / half[:, None]
        self.within = self.W.T @ self.W - self.right.T @ self.right

    def _eliminate(self, factors: list[Array]) -> tuple[Array, float]:
        """``W'V^-1 W`` and ``log|V|``."""
        psi = float(factors[0][0, 0]) ** 2
        L = psi * self.core
        L.flat[:: len(L) + 1] += 1.0
        L = scipy.linalg.cholesky(L, lower=True, overwrite_a=True, check_finite=False)
        half = scipy.linalg.solve_triangular(L, self.right, lower=True, check_finite=False)
        logdet = 2.0 * float(np.log(np.diag(L)).sum())
        is_shared = self.model.relation is not None and self.model.relation.kind == "mm"
        return self.within + (-psi if is_shared else 1.0) * half.T @ half, logdet


def memberships(
    table: dict[str, Column], columns: tuple[str, ...], weights: tuple[str, ...]
) -> sp.csr_matrix:
    """(n, J) weights of each row's levels, whose sum in a row is one."""
    n = len(table[columns[0]])
    level = np.concatenate([np.asarray(table[name]) for name in columns])
    value = np.concatenate([np.asarray(table[name], float) for name in weights])
    rows = np.tile(np.arange(n), len(columns))
    Z = sp.csr_matrix((value, (rows, level)), shape=(n, int(level.max()) + 1))
    return sp.csr_matrix(sp.diags(1.0 / np.asarray(Z.sum(axis=1)).ravel()) @ Z)


def relationships(parents: NDArray[np.int64]) -> Array:
    """``A`` of animals numbered so that parents come first; -1 is an unknown parent."""
    J = len(parents)
    A = np.zeros((J, J))
    for k in range(J):
        known = parents[k][parents[k] >= 0]
        row = 0.5 * A[known, :k].sum(axis=0)
        A[k, :k], A[:k, k] = row, row
        A[k, k] = 1.0 + (0.5 * A[known[0], known[1]] if len(known) == 2 else 0.0)
    return A
