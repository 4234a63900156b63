r"""Structured residuals beside random effects whose levels cross the units of the residuals.

A whitened row mixes the levels of all earlier rows of its unit, so ``Z'R^-1 Z`` couples levels of
one factor: it is formed as one sparse matrix and handed to the dense engine of general random
effects. Within units the projection is ``I - UY'`` still, with ``U = [Y~, E]``: the projected
columns and, laid out by place in the unit, ``E = W_Z Var(u | y) W_Z' / sigma2``.

The covariance of all random effects is held as one matrix: up to ``MOST_EFFECTS`` effects, and
``MOST_PLACES`` entries of ``E``. Source: Henderson 1975 (mixed-model equations with general R).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.errors import LikelihoodError
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.likelihood.related.dense import DenseRelatedEngine
from multilevel.likelihood.related.products import RelatedProducts
from multilevel.likelihood.residual.arrow_layout import MOST_CORE
from multilevel.likelihood.residual.objective import StructuredObjective, StructuredProblem

Array = NDArray[np.float64]
MOST_EFFECTS = 3_000
MOST_PLACES = 20_000_000
CHUNK = 4_000_000  # entries of rows times random effects held at a time


def check_size(problem: StructuredProblem) -> None:
    """Refuse what does not fit the dense layout.

    Raises
    ------
    LikelihoodError : too many random effects, or units that are too large for their number.
    """
    effects = sum(J * q for J, q in zip(problem.levels, problem.widths, strict=True))
    if effects > MOST_EFFECTS:
        raise LikelihoodError(
            "Random effects that cross the units of a residual structure are laid out in one"
            f" matrix: at most {MOST_CORE:,} of them, {MOST_EFFECTS:,} where units are large.",
            f"{effects:,} random effects",
            "leave out the factor with most levels, or fit without residual=",
        )
    longest = int(np.diff(problem.layout.starts).max())
    if problem.n * longest > MOST_PLACES:
        raise LikelihoodError(
            "Random effects that cross the units of a residual structure need units of moderate"
            " size.",
            f"{problem.n:,} rows in units of up to {longest:,}",
            "name a finer unit right of the bar of residual=, or fit without residual=",
        )


class CrossedObjective(StructuredObjective):
    """The criterion where levels cross units; parameters and answers as for the nested one."""

    def __init__(self, problem: StructuredProblem, reml: bool) -> None:
        check_size(problem)
        super().__init__(problem, reml)
        counts = np.diff(problem.layout.starts)
        self._first = np.repeat(problem.layout.starts[:-1], counts)
        self._place = np.arange(problem.n) - self._first
        self._longest = int(counts.max())
        self._Z = _indicators(problem)
        self._ZW: sparse.csr_array = self._Z
        self._Z_scaled: sparse.csr_array = self._Z
        self._posterior: Array | None = None

    def _places(self) -> Array:
        """Ones at the place of each row in its unit: (n, T)."""
        out = np.zeros((self.problem.n, self._longest))
        out[np.arange(self.problem.n), self._place] = 1.0
        return out

    def _whiten(self) -> RelatedProducts:
        """Whitened rows and their cross-products."""
        problem, Q = self.problem, self.problem.n_random
        self._W = self.whitener.decorrelate(self._scaled)
        # L^-1 of every unit, (i, place of the column in the unit), as one sparse matrix
        entries = self.whitener.decorrelate(self._places())
        row, place = np.nonzero(entries)
        root = sparse.csr_array(
            (entries[row, place], (row, self._first[row] + place)), shape=(problem.n, problem.n)
        )
        self._Z_scaled = sparse.csr_array(self._Z.multiply(1.0 / self.whitener.sd[:, None]))
        self._ZW = sparse.csr_array(root @ self._Z_scaled)
        W = self._W[:, Q:]
        gram, side = sparse.csr_array(self._ZW.T @ self._ZW), self._ZW.T @ W
        own, rhs, at = [], [], 0
        for J, q in zip(problem.levels, problem.widths, strict=True):
            square = gram[at : at + J * q, at : at + J * q].toarray().reshape(J, q, J, q)
            own.append(square[np.arange(J), :, np.arange(J), :])
            rhs.append(side[at : at + J * q].reshape(J, q, -1))
            at += J * q
        return RelatedProducts(
            problem.n, problem.p, W.T @ W, tuple(own), tuple(rhs), {}, -self.whitener.logdet,
            gram=gram, relations=(None,) * len(own),
        )  # fmt: skip

    def _engine(self) -> GaussianEngine:
        self._posterior = None
        if not isinstance(self.cross, RelatedProducts):
            raise ValueError("the cross-products are not set")
        return DenseRelatedEngine(self.cross)

    def _given(self, inner: GaussianObjective) -> Array:
        """``Var(u | y) / sigma2`` of all random effects (Q, Q)."""
        if self._posterior is None:
            if not isinstance(inner.engine, DenseRelatedEngine):
                raise ValueError("the objective is not set")
            sizes = list(zip(self.problem.levels, self.problem.widths, strict=True))
            cuts = np.cumsum([0, *(J * q for J, q in sizes)])
            unit = np.eye(int(cuts[-1]))
            parts = [
                unit[a:b].reshape(J, q, -1)
                for (J, q), a, b in zip(sizes, cuts, cuts[1:], strict=False)
            ]
            found = inner.engine.posterior_product(parts)
            self._posterior = np.concatenate([f.reshape(-1, len(unit)) for f in found])
        return self._posterior

    def _solved(self, inner: GaussianObjective) -> Array:
        """``Var(u | y) Z'R^-1 [X y] / sigma2``: (Q, m)."""
        if self.cross is None:
            raise ValueError("the objective is not set")
        side = np.concatenate([r.reshape(-1, r.shape[2]) for r in self.cross.rhs])
        return np.asarray(self._given(inner) @ side)

    def _columns(
        self, inner: GaussianObjective, top: Array | None = None
    ) -> tuple[Array, Array, Array]:
        Q, b = self.problem.n_random, self._solved(inner)
        top = self._top(inner) if top is None else top
        b = b @ top
        Y = self._W[:, Q:] @ top - self._ZW @ b
        before = self._scaled[:, Q:] @ top - self._Z_scaled @ b
        places = self._places()
        roots = self.whitener.colour(places) / self.whitener.sd[:, None]
        return (
            np.hstack([Y, self._explained(inner)]),
            np.hstack([Y, places]),
            np.hstack([before, roots]),
        )

    def _explained(self, inner: GaussianObjective) -> Array:
        """``E`` (n, T): row i with the row at each place of its unit."""
        n, given = self.problem.n, self._given(inner)
        out = np.zeros((n, self._longest))
        step = max(1, CHUNK // len(given))
        for start in range(0, n, step):
            rows = np.arange(start, min(start + step, n))
            spread = self._ZW[rows] @ given
            for k in range(self._longest):
                other = self._first[rows] + k
                is_there = np.flatnonzero((other < n) & (self._first[np.minimum(other, n - 1)]
                                                         == self._first[rows]))  # fmt: skip
                pair = self._ZW[other[is_there]].multiply(spread[is_there])
                out[rows[is_there], k] = np.asarray(pair.sum(axis=1)).ravel()
        return out

    def _conditional(self, inner: GaussianObjective) -> tuple[Array, Array]:
        Q, profile = self.problem.n_random, inner.profile
        if profile is None:
            raise ValueError("the objective is not set")
        w = np.append(-profile.beta, 1.0)
        b = self._solved(inner) @ w
        return (
            np.asarray(self._W[:, Q:] @ w - self._ZW @ b),
            np.asarray(self._scaled[:, Q:] @ w - self._Z_scaled @ b),
        )

    def average_information(self, psi: Array) -> Array:
        """Average-information curvature in ``psi`` (r + K, r + K), sigma2 profiled out."""
        inner = self.ensure(psi)
        r, Q = self.n_theta, self.problem.n_random
        f = np.zeros((self.problem.n, self.n_parameters))
        coefficients = [c.reshape(-1, r) for c in inner.working_coefficients()]
        f[:, :r] = self._ZW @ np.concatenate(coefficients)
        f[:, r:] = self.whitener.working(*self._conditional(inner))
        wide = np.hstack([self._W[:, Q:-1], f, self._W[:, -1:]])
        C = self._ZW.T @ wide
        return self._information(inner, wide.T @ wide - C.T @ (self._given(inner) @ C))


def _indicators(problem: StructuredProblem) -> sparse.csr_array:
    """``Z`` (n, all effects) of the sorted rows."""
    n, parts, at = problem.n, [], 0
    for code, J, q in zip(problem.codes, problem.levels, problem.widths, strict=True):
        columns = code[:, None].astype(np.int64) * q + np.arange(q)
        values = problem.F[:, at : at + q]
        index = np.repeat(np.arange(n), q)
        parts.append(sparse.csr_array((values.ravel(), (index, columns.ravel())), shape=(n, J * q)))
        at += q
    return sparse.csr_array(sparse.hstack(parts, format="csr"))
