"""Structured residuals beside crossed random effects, the leaf eliminated by cluster first.

The criterion of ``crossed`` (its plain twin) at a cost by cluster: see ``arrow_layout`` for what is
leaf and core, ``arrow_engine`` for the algebra. Within units ``Z Var(u|y) Z' / sigma2`` is, in
local whitened columns, ``Z1 N1 Z1' + X N2 X'`` with ``X = Z2 - Z1 N1 B``: so the projection is
``I - UY'`` with few columns, as for nested factors. Memory is linear in the rows and quadratic in
the effects of the core.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.likelihood.residual.arrow_engine import (
    ArrowEngine,
    ArrowProducts,
    arrow_products,
    gather_sum,
)
from multilevel.likelihood.residual.arrow_layout import ArrowLayout, arrow_layout
from multilevel.likelihood.residual.objective import (
    COMPILED_FROM,
    StructuredObjective,
    StructuredProblem,
)

Array = NDArray[np.float64]
WIDEST_COMPILED = 100  # local columns up to which the compiled score pays


class ArrowObjective(StructuredObjective):
    """The criterion where levels cross units; parameters and answers as for the nested one.

    Raises
    ------
    LikelihoodError : a design that does not fit the limits of ``arrow_layout``.
    """

    def __init__(
        self, problem: StructuredProblem, reml: bool, layout: ArrowLayout | None = None
    ) -> None:
        super().__init__(problem, reml)
        layout = arrow_layout(problem) if layout is None else layout
        if layout is None:
            raise LikelihoodError(
                "Clusters must be small and the factors that cross them few.",
                f"{problem.n:,} rows", "use the dense engine",
            )  # fmt: skip
        self.arrow = layout
        self._sizes = list(zip(problem.levels, problem.widths, strict=True))
        self._local: Array = np.zeros((0, 0))
        self._local_scaled: Array = np.zeros((0, 0))
        self._rows: Array = np.zeros((0, 0))  # local columns, X and y: scaled, not whitened
        self._cluster = np.zeros(problem.n, dtype=np.int32)
        for stack in layout.stacks:
            self._cluster[stack.rows] = stack.clusters[:, None]

    def _whiten(self) -> ArrowProducts:
        """Whitened rows and their cross-products."""
        Q, width = self.problem.n_random, self.arrow.n_leaf + self.arrow.n_core
        self._rows = self.arrow.local(self.problem, self._scaled)
        whitened = self.whitener.decorrelate(self._rows)
        Z = self.whitener.decorrelate(self._scaled[:, :Q])
        self._W = np.hstack([Z, whitened[:, width:]])
        self._local, self._local_scaled = whitened[:, :width], self._rows[:, :width]
        return arrow_products(self.arrow, self._sizes, whitened, self.whitener.logdet)

    def _engine(self) -> GaussianEngine:
        if not isinstance(self.cross, ArrowProducts):
            raise ValueError("the cross-products are not set")
        return ArrowEngine(self.cross)

    def _factorised(self, inner: GaussianObjective) -> ArrowEngine:
        if not isinstance(inner.engine, ArrowEngine):
            raise ValueError("the objective is not set")
        return inner.engine

    def _effects(self, inner: GaussianObjective) -> Array:
        """``Var(u | y) Z'R^-1 [X y] / sigma2`` in local columns: (C, Q + K, m)."""
        u1, u2 = self._factorised(inner).solved()
        near = np.concatenate([u2, np.zeros((1, u2.shape[1]))])[self.arrow.index]
        return np.concatenate([u1, near], axis=1)

    def _residual_score(self, inner: GaussianObjective) -> Array:
        """``dd/dphi``; compiled where rows are many and depend on the row before only."""
        width = self._local.shape[1]
        is_compiled = self.problem.n >= COMPILED_FROM and self.whitener.is_markov
        if not is_compiled or width > WIDEST_COMPILED:
            return self.whitener.score(*self._columns(inner))
        top = self._top(inner)
        S = self._factorised(inner).local_posterior()
        return self.whitener.compiled_score(
            self._rows, self._cluster, top, -(self._effects(inner) @ top), S
        )

    def _columns(
        self, inner: GaussianObjective, top: Array | None = None
    ) -> tuple[Array, Array, Array]:
        engine, Q, q1 = self._factorised(inner), self.problem.n_random, self.arrow.n_leaf
        top = self._top(inner) if top is None else top
        effects = self._effects(inner) @ top
        Y = self._W[:, Q:] @ top - self.arrow.times(self._local, effects)
        before = self._scaled[:, Q:] @ top - self.arrow.times(self._local_scaled, effects)
        Z1, Z1_scaled = self._local[:, :q1], self._local_scaled[:, :q1]
        X = self._local[:, q1:] - self.arrow.times(Z1, engine.NB)
        X_scaled = self._local_scaled[:, q1:] - self.arrow.times(Z1_scaled, engine.NB)
        left = [Y, self.arrow.times(Z1, engine.N1), self.arrow.times(X, engine.local_core())]
        return (
            np.hstack(left), np.hstack([Y, Z1, X]), np.hstack([before, Z1_scaled, X_scaled])
        )  # fmt: skip

    def _conditional(self, inner: GaussianObjective) -> tuple[Array, Array]:
        Q, profile = self.problem.n_random, inner.profile
        if profile is None:
            raise ValueError("the objective is not set")
        w = np.append(-profile.beta, 1.0)
        effects = self._effects(inner) @ w[:, None]
        out = []
        for rows, local in ((self._W, self._local), (self._scaled, self._local_scaled)):
            out.append(rows[:, Q:] @ w - self.arrow.times(local, effects)[:, 0])
        return out[0], out[1]

    def average_information(self, psi: Array) -> Array:
        """Average-information curvature in ``psi`` (r + K, r + K), sigma2 profiled out."""
        inner = self.ensure(psi)
        engine = self._factorised(inner)
        r, Q, q1 = self.n_theta, self.problem.n_random, self.arrow.n_leaf
        f = np.zeros((self.problem.n, self.n_parameters))
        if r:
            leaf, core = engine.grouped(inner.working_coefficients())
            near = np.concatenate([core, np.zeros((1, r))])[self.arrow.index]
            f[:, :r] = self.arrow.times(self._local, np.concatenate([leaf, near], axis=1))
        f[:, r:] = self.whitener.working(*self._conditional(inner))
        wide = np.hstack([self._W[:, Q:-1], f, self._W[:, -1:]])
        C = self.arrow.squares(self._local, wide)
        F1, F2 = C[:, :q1], gather_sum(self.arrow, C[:, q1:])
        u1, u2 = engine.solve(F1, F2)
        taken = np.tensordot(F1, u1, axes=([0, 1], [0, 1])) + F2.T @ u2
        return self._information(inner, wide.T @ wide - taken)
