"""The profiled criterion in ``(theta, phi)``: random-effect and residual parameters together.

For each ``phi`` the rows are whitened and their cross-products formed (one pass); the Gaussian
objective does the rest. Where standard deviations of random effects depend on predictors, ``phi``
ends with their coefficients ``alpha`` and the random-effect columns are scaled first. Exact
gradient in all; the Hessian by differences of the gradient, or average information. See the room's
text for the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from multilevel.design.records import Design
from multilevel.design.residual_layout import ResidualLayout
from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.accumulate import add_by_code
from multilevel.likelihood.blocks.cross_products import CrossProducts, PairBlock
from multilevel.likelihood.blocks.scaling import Scaling
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.gaussian.nested import NestedEngine
from multilevel.likelihood.gaussian.objective import GaussianObjective, Profile
from multilevel.likelihood.residual.random_scale import ScaledColumns
from multilevel.likelihood.residual.whiten import Whitener
from multilevel.model.covariance.structures import FactorMap

Array = NDArray[np.float64]


COMPILED_FROM = 20_000  # rows from which the compiled score pays


class StructuredProblem:
    """Scaled columns of the sorted rows; frozen, shared by objectives.

    ``F`` (n, Q + m) holds ``[Z_0 .. Z_K-1 X y]`` scaled; ``codes`` the level of each sorted row of
    each block; ``parents[k]`` the level of block k + 1 that holds each level of block k;
    ``scales`` the model for standard deviations of random effects, ``F`` being at ``alpha = 0``.
    """

    def __init__(
        self, design: Design, layout: ResidualLayout, scaling: Scaling, maps: Sequence[FactorMap]
    ) -> None:
        rows = layout.order
        y = design.y if design.offset is None else design.y - design.offset
        self.scales = ScaledColumns(design.blocks, rows)
        raw = self.scales.unscaled()
        Z = [z @ B for z, B in zip(raw, scaling.random, strict=True)]
        self.F = np.hstack([*Z, scaling.apply(design.X[rows], y[rows])])
        self.codes = [np.ascontiguousarray(b.codes[rows]) for b in design.blocks]
        self.levels = [b.n_levels for b in design.blocks]
        self.widths = [z.shape[1] for z in Z]
        self.maps = tuple(maps)
        self.p = design.X.shape[1]
        self.layout = layout
        self.is_crossed = not _is_chain(self.codes, layout)
        self.parents = []
        for k in range(0 if self.is_crossed else len(self.codes) - 1):
            parent = np.zeros(self.levels[k], dtype=np.int64)
            parent[self.codes[k]] = self.codes[k + 1]
            self.parents.append(parent)

    def independent(self) -> NDArray[np.int64]:
        """Number of the independent cluster of each sorted row: the coarsest factor, the units
        where nothing is random, all rows that levels and units connect where these cross."""
        unit = self.layout.codes[self.layout.order].astype(np.int64)
        if not self.codes:
            return unit
        if not self.is_crossed:
            return self.codes[-1].astype(np.int64)
        return _connected([unit, *self.codes])

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.F)

    @property
    def n_random(self) -> int:
        """Random-effect columns of all blocks, Q."""
        return sum(self.widths)

    def cross_products(self, W: Array, logdet: float) -> CrossProducts:
        """Cross-products of whitened rows (n, Q + m); ``logdet`` of the residual covariance.

        Further columns before the last count as fixed effects.
        """
        Q, K = self.n_random, len(self.codes)
        own, rhs = [], []
        pairs: dict[tuple[int, int], PairBlock] = {}
        at = 0
        for k in range(K):
            q, J = self.widths[k], self.levels[k]
            out = np.zeros((J, q, W.shape[1] - at))
            add_by_code(self.codes[k], W[:, at : at + q], W[:, at:], out)
            own.append(np.ascontiguousarray(out[:, :, :q]))
            rhs.append(np.ascontiguousarray(out[:, :, Q - at :]))
            start, home = q, np.arange(J)
            for t in range(k + 1, K):
                home = self.parents[t - 1][home]
                stop = start + self.widths[t]
                values = np.ascontiguousarray(out[:, :, start:stop])
                pairs[k, t] = PairBlock(np.arange(J + 1, dtype=np.int64), home, values)
                start = stop
            at += q
        right = W[:, Q:]
        return CrossProducts(
            self.n, right.shape[1] - 1, right.T @ right, tuple(own), tuple(rhs), pairs, -logdet
        )


def _connected(codes: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Connected component of each row in the graph of rows that share a code."""
    n, size, ends = len(codes[0]), 0, []
    for code in codes:
        ends.append(code.astype(np.int64) + size)
        size += int(code.max()) + 1
    left = np.tile(ends[0], len(ends) - 1)
    edges = (np.ones(len(left)), (left, np.concatenate(ends[1:])))
    graph = sparse.csr_array(edges, shape=(size, size))
    labels = csgraph.connected_components(graph, directed=False)[1]
    return np.unique(labels[ends[0]], return_inverse=True)[1].reshape(n).astype(np.int64)


def _is_chain(codes: Sequence[NDArray[np.int32]], layout: ResidualLayout) -> bool:
    """Whether units lie inside the levels of the first block, those inside the second, ..."""
    inside = layout.codes[layout.order]
    for code in codes:
        home = np.zeros(int(inside.max()) + 1, dtype=code.dtype)
        home[inside] = code
        if not np.array_equal(home[inside], code):
            return False
        inside = code
    return True


class StructuredObjective:
    """Criterion of one problem under ML or REML as a function of ``psi = (theta, phi)``."""

    def __init__(self, problem: StructuredProblem, reml: bool) -> None:
        self.problem, self.reml = problem, reml
        self.whitener = Whitener(problem.layout)
        self.n_theta = sum(m.n_parameters for m in problem.maps)
        self.n_parameters = self.n_theta + self.whitener.n_parameters + problem.scales.n_parameters
        self.n_evaluations = 0
        self.inner: GaussianObjective | None = None
        self.cross: CrossProducts | None = None
        self._psi: Array | None = None
        self._scaled: Array = np.zeros((0, 0))
        self._W: Array = np.zeros((0, 0))

    def set(self, psi: Array) -> Profile:
        """Whiten, form cross-products, eliminate, profile."""
        theta, phi = psi[: self.n_theta], psi[self.n_theta :]
        problem = self.problem
        same = self._psi is not None and np.array_equal(self._psi[self.n_theta :], phi)
        if not same or self.cross is None:
            self._psi = None
            self.whitener.set(phi)
            self._scaled = problem.scales.apply(problem.F, phi) / self.whitener.sd[:, None]
            self.cross = self._whiten()
        self.inner = GaussianObjective(
            self._engine(), problem.maps, problem.n, problem.p, self.reml,
            self.cross.sum_log_weights,
        )  # fmt: skip
        self.n_evaluations += 1
        self._psi = None
        try:
            profile = self.inner.set(theta)
        except np.linalg.LinAlgError as error:
            raise LikelihoodError(
                "The covariance of every cluster must be positive definite.",
                "a factorisation that broke down",
                "rescale the predictors, or use a residual structure with fewer parameters",
            ) from error
        self._psi = np.array(psi)
        return profile

    def _whiten(self) -> CrossProducts:
        """Whitened rows and their cross-products."""
        self._W = self.whitener.decorrelate(self._scaled)
        return self.problem.cross_products(self._W, self.whitener.logdet)

    def _engine(self) -> GaussianEngine:
        if self.cross is None:
            raise ValueError("the cross-products are not set")
        return NestedEngine(self.cross)

    def ensure(self, psi: Array) -> GaussianObjective:
        """Set ``psi`` unless it is what was last set; the Gaussian objective at ``theta``."""
        if self.inner is None or self._psi is None or not np.array_equal(psi, self._psi):
            self.set(psi)
        if self.inner is None:  # set() made it
            raise ValueError("the objective could not be set")
        return self.inner

    def value(self, psi: Array) -> float:
        """The criterion at ``psi`` (r + K,)."""
        return self.set(psi).criterion

    def gradient(self, psi: Array) -> Array:
        """``dd/dpsi`` (r + K,)."""
        inner = self.ensure(psi)
        return np.concatenate([
            inner.gradient(),
            self._residual_score(inner),
            self.problem.scales.score(inner, self.reml),
        ])  # fmt: skip

    def _residual_score(self, inner: GaussianObjective) -> Array:
        """``dd/dphi``; compiled where rows are many and depend on the row before only."""
        problem, Q = self.problem, self.problem.n_random
        is_compiled = problem.n >= COMPILED_FROM and self.whitener.is_markov
        if not is_compiled or not isinstance(inner.engine, NestedEngine):
            return self.whitener.score(*self._columns(inner))
        top = self._top(inner)
        if Q == 0:
            code = np.zeros(problem.n, dtype=np.int32)
            B, S = np.zeros((1, 0, top.shape[1])), np.zeros((1, 0, 0))
        else:
            B, S = inner.engine.conditional_moments()
            code, B = problem.codes[0], B @ top
        return self.whitener.compiled_score(self._scaled, code, top, B, S)

    def _top(self, inner: GaussianObjective) -> Array:
        """``[R^-1, (-beta, 1) / sigma]``, under ML its last column."""
        profile, p = inner.profile, self.problem.p
        if profile is None:
            raise ValueError("the objective is not set")
        top = np.zeros((p + 1, p + 1))
        top[:p, :p] = np.linalg.solve(profile.R, np.eye(p))
        top[:, p] = np.append(-profile.beta, 1.0) / np.sqrt(profile.sigma2)
        return top if self.reml else top[:, p:]

    def projection(self, psi: Array) -> tuple[Array, Array]:
        """Columns ``U, Y`` (n, c), sorted rows: within units ``I - UY'`` is the whitened P.

        ``P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1`` relative to sigma2. The first p columns of both
        are the whitened ``V^-1 X R^-1``, ``R'R = X'V^-1 X``.
        """
        inner = self.ensure(psi)
        profile, p = inner.profile, self.problem.p
        if profile is None:
            raise ValueError("the objective is not set")
        top = np.zeros((p + 1, p))
        top[:p] = np.linalg.solve(profile.R, np.eye(p))
        return self._columns(inner, top)[:2]

    def whitened(self, psi: Array) -> Array:
        """Whitened sorted rows ``[Z X y]`` (n, Q + p + 1), scaled problem."""
        self.ensure(psi)
        return self._W

    def _columns(
        self, inner: GaussianObjective, top: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Columns with ``I - UY'`` the whitened ``P`` within units; Y before whitening too.

        By ``top`` of the score, which has the residual as a column, unless another is given.
        """
        problem, Q = self.problem, self.problem.n_random
        top = self._top(inner) if top is None else top
        if not isinstance(inner.engine, NestedEngine):
            raise ValueError("the objective is not set")
        scaled = self._scaled
        Y, before = self._W[:, Q:] @ top, scaled[:, Q:] @ top
        if Q == 0:
            return Y, Y, before
        B, S = inner.engine.conditional_moments()
        code = problem.codes[0]
        Y += _times_level(self._W[:, :Q], B @ top, code)
        before += _times_level(scaled[:, :Q], B @ top, code)
        ZS = _times_level(self._W[:, :Q], S, code)
        return (
            np.hstack([Y, ZS]),
            np.hstack([Y, self._W[:, :Q]]),
            np.hstack([before, scaled[:, :Q]]),
        )

    def conditional_residuals(self, psi: Array) -> Array:
        """``L^-1 D^-1 (y - X beta - Z b)`` of the sorted rows, scaled problem: (n,)."""
        return self._conditional(self.ensure(psi))[0]

    def fixed_scores(self, psi: Array) -> Array:
        """Rows (n, p) whose sum over an independent cluster is ``X'V^-1(y - X beta)``.

        Sorted rows, scaled problem, V relative to sigma2: ``V^-1 (y - X beta)`` equals
        ``R^-1 (y - X beta - Z b)`` with b the predicted random effects (Henderson 1975).
        """
        e = self.conditional_residuals(psi)
        Q = self.problem.n_random
        return np.asarray(self._W[:, Q:-1] * e[:, None])

    def _conditional(self, inner: GaussianObjective) -> tuple[Array, Array]:
        """``y - X beta - Z b``: whitened, and scaled by the standard deviations only."""
        Q, profile = self.problem.n_random, inner.profile
        if profile is None or not isinstance(inner.engine, NestedEngine):
            raise ValueError("the objective is not set")
        w = np.append(-profile.beta, 1.0)
        out = []
        for rows in (self._W, self._scaled):
            part = rows[:, Q:] @ w
            if Q:
                b = inner.engine.conditional_moments()[0] @ w
                part = part + np.einsum("iq,iq->i", rows[:, :Q], b[self.problem.codes[0]])
            out.append(part)
        return out[0], out[1]

    def average_information(self, psi: Array) -> Array:
        """Average-information curvature in ``psi`` (r + K, r + K), sigma2 profiled out.

        The working columns ``dV V^-1 (y - X beta)`` are eliminated beside X and y. The second
        derivatives of ``R`` are left out, those of ``Psi`` are in.
        """
        inner = self.ensure(psi)
        problem, profile, r = self.problem, inner.profile, self.n_theta
        if profile is None:
            raise ValueError("the objective is not set")
        e, scaled = self._conditional(inner)
        f = np.zeros((problem.n, self.n_parameters))
        at = 0
        coefficients = inner.working_coefficients() if r else []
        for code, q, C in zip(problem.codes, problem.widths, coefficients, strict=True):
            f[:, :r] += _times_level(self._W[:, at : at + q], C, code)
            at += q
        last = r + self.whitener.n_parameters
        f[:, r:last] = self.whitener.working(e, scaled)
        for k, C in problem.scales.working(inner):
            start = sum(problem.widths[:k])
            Z = self._W[:, start : start + problem.widths[k]]
            f[:, last : last + C.shape[2]] = _times_level(Z, C, problem.codes[k])
            last += C.shape[2]
        wide = np.hstack([self._W[:, :-1], f, self._W[:, -1:]])
        engine = NestedEngine(problem.cross_products(wide, 0.0))
        engine.factorise(inner.factors)
        return self._information(inner, engine.T)

    def _information(self, inner: GaussianObjective, T: Array) -> Array:
        """Average information from the cross-products T of ``[X, working columns, y]``."""
        profile, p, k, r = inner.profile, self.problem.p, self.n_parameters, self.n_theta
        if profile is None:
            raise ValueError("the objective is not set")
        FX = T[p : p + k, :p]
        Fe = T[p : p + k, p + k] - FX @ profile.beta
        Y = np.linalg.solve(profile.R.T, FX.T)
        H = (T[p : p + k, p : p + k] - Y.T @ Y - np.outer(Fe, Fe) / profile.r2) / profile.sigma2
        if r:
            H[:r, :r] += inner.second_order_term()
        return np.asarray((H + H.T) / 2.0)

    def hessian(self, psi: Array, step: float = 1e-5) -> Array:
        """Central differences of the gradient; leaves ``psi`` set."""
        k = self.n_parameters
        H = np.empty((k, k))
        for a in range(k):
            shift = np.zeros(k)
            shift[a] = step * max(1.0, abs(float(psi[a])))
            H[a] = (self.gradient(psi + shift) - self.gradient(psi - shift)) / (2.0 * shift[a])
        self.set(psi)
        return (H + H.T) / 2.0


def _times_level(rows: Array, coefficient: Array, code: NDArray[np.int32]) -> Array:
    """Row i of ``rows`` (n, a) times ``coefficient[code[i]]`` (a, b), by columns: (n, b)."""
    out = np.zeros((len(rows), coefficient.shape[2]))
    for a in range(rows.shape[1]):
        out += rows[:, a, None] * np.take(coefficient[:, a], code, axis=0)
    return out
