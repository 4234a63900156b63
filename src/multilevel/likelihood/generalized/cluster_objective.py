"""What all engines of one grouping factor share: modes, Laplace value and exact gradient.

All clusters of a chunk iterate together; a chunk is a run of clusters whose arrays stay in cache.
``value`` computes what the gradient needs in the same pass, so ``gradient`` only reads.
Large problems run compiled kernels (``cluster_kernels``), small ones their NumPy twins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.threads import idle_cores
from multilevel.likelihood.generalized.clusters import Chunk, ClusterRows, sort_by_cluster
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.row import RowDerivatives

Array = NDArray[np.float64]

MAX_ITERATIONS = 200  # Newton steps of one chunk, halvings counted
COMPILED_FROM = 10_000  # rows x nodes x columns from which kernels are compiled
THREADS_FROM = 50_000  # rows x nodes from which threads pay
_HOME = "multilevel.likelihood.generalized"


class ClusterState:
    """Arrays by cluster at one ``psi`` (J clusters with rows, q columns)."""

    def __init__(self, rows: ClusterRows, n_parts: int) -> None:
        J, q, n = rows.n_clusters, rows.Z.shape[0], rows.Z.shape[1]
        self.Lam = np.zeros((q, q))
        self.u, self.base, self.step = np.zeros((J, q)), np.zeros((J, q)), np.zeros((J, q))
        self.record, self.status = np.zeros((J, 2)), np.zeros(J, dtype=np.int64)
        self.h, self.score, self.log_value = np.zeros(J), np.zeros((J, q)), np.zeros(J)
        self.A, self.L = np.zeros((J, q, q)), np.zeros((J, q, q))
        self.Linv = np.zeros((J, q, q))
        self.W, self.ubar = np.zeros((J, q, q)), np.zeros((J, q))
        self.fixed, self.rho = np.empty((n_parts, n)), np.empty((n_parts, n))
        self.LamBar = np.zeros((J, q, q))


class ClusterObjective:
    """``-2 log L`` of a model with one grouping factor, by Laplace; quadrature refines it.

    Parameters
    ----------
    problem : a problem with exactly one block.
    compiled : compiled kernels or their NumPy twins (None: by size).
    threads : threads over chunks (None: the idle cores for large problems, else one).
    """

    method = "Laplace"

    def __init__(
        self,
        problem: GeneralizedProblem,
        *,
        compiled: bool | None = None,
        threads: int | None = None,
    ) -> None:
        if len(problem.blocks) != 1:
            raise LikelihoodError(
                "The one-factor engine needs exactly one grouping factor.",
                f"{len(problem.blocks)} factors",
                "build the objective with make_objective",
            )
        self.problem = problem
        self.points: tuple[int, ...] = (1,)
        self.n_evaluations = 0
        self.rows = sort_by_cluster(problem)
        q, work = self.rows.Z.shape[0], problem.n * self._nodes_per_cluster()
        self.compiled = work * q >= COMPILED_FROM if compiled is None else compiled
        scalar = self.compiled and q == 1
        self.ops = operations("scalar" if scalar else "cluster", self.compiled)
        self.tail = operations("scalar" if scalar else "adjoint", self.compiled)
        self.chunks = self.rows.chunks(self._numbers_per_row())
        wanted = threads if threads is not None else 1 if work < THREADS_FROM else idle_cores()
        self.threads = max(1, min(wanted, len(self.chunks)))
        self.state = ClusterState(self.rows, problem.n_parts)
        self._modes = np.zeros_like(self.state.u)
        self.psi, self.criterion = np.zeros(problem.n_parameters), np.nan
        self.plan = (
            f"one grouping factor ({self.rows.n_clusters} clusters): {self.method} by cluster, "
            f"{'compiled' if self.compiled else 'plain'} kernels, {self.threads} thread"
            f"{'s' if self.threads > 1 else ''}"
        )

    def _nodes_per_cluster(self) -> int:
        return 1

    def _numbers_per_row(self) -> int:
        D, R = self.problem.n_parts, len(self.problem.random_parts)
        return max(8, R * R * D)

    def value(self, psi: Array) -> float:
        """``-2 log L`` at ``psi`` (P,).

        Raises
        ------
        LikelihoodError : parameters that are not finite, no mode, or a value that overflows.
        """
        psi = np.array(psi, dtype=float)
        self.n_evaluations += 1
        if not np.isfinite(psi).all():
            raise LikelihoodError(
                "Parameters must be finite.", f"{psi.tolist()}", "take a shorter step"
            )
        state, problem = self.state, self.problem
        beta = [psi[s] for s in problem.fixed_slices]
        state.fixed = self.rows.sorted.fixed_predictors(beta)
        state.Lam = np.ascontiguousarray(problem.factors(psi)[0])
        state.u[:] = self._modes
        state.status[:] = 0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            self._run()
        total = float(state.log_value.sum())
        if not np.isfinite(total):
            j = int(np.flatnonzero(~np.isfinite(state.log_value))[0])
            raise self._no_value(j, "a likelihood that is not finite")
        self._modes[:] = state.u
        self.psi, self.criterion = psi, -2.0 * total
        return self.criterion

    def _run(self) -> None:
        if self.threads == 1:
            for chunk in self.chunks:
                self._evaluate(chunk)
            return
        left = deque(self.chunks)
        with ThreadPoolExecutor(self.threads - 1) as pool:
            tasks = [pool.submit(self._work_off, left) for _ in range(self.threads - 1)]
            self._work_off(left)
            for task in tasks:
                task.result()

    def _work_off(self, left: deque[Chunk]) -> None:
        """Evaluate chunks, shared with other threads, until none is left."""
        while True:
            try:
                chunk = left.popleft()
            except IndexError:
                return
            self._evaluate(chunk)

    def _evaluate(self, chunk: Chunk) -> None:
        """Modes, value and gradient pieces of one chunk."""
        state = self.state
        found = self._find_modes(chunk)
        here = slice(chunk.start, chunk.stop)
        diagonal = np.einsum("jaa->ja", state.L[here])
        state.log_value[here] = state.h[here] - np.log(diagonal).sum(axis=1)
        state.rho[:, chunk.rows] = found.first
        state.LamBar[here] = state.score[here, :, None] * state.u[here, None, :]
        self._adjoint(chunk, found)

    def _adjoint(self, chunk: Chunk, found: RowDerivatives) -> None:
        s, rows = self.state, self.rows
        self.tail.adjoint(
            found.second, found.third, rows.Z, rows.ptr, rows.column_part, rows.random,
            chunk.start, chunk.stop, s.Lam, s.u, s.score, s.A, s.Linv, s.W, s.ubar, s.rho,
            s.LamBar, s.log_value,
        )  # fmt: skip

    def _find_modes(self, chunk: Chunk) -> RowDerivatives:
        """Newton until every cluster of the chunk is at its mode; derivatives there."""
        s, rows = self.state, self.rows
        family = rows.sorted.likelihood
        eta = np.empty((self.problem.n_parts, chunk.n_rows))
        design = (rows.Z, rows.ptr, rows.column_part, rows.random, chunk.start, chunk.stop, s.Lam)
        self.ops.predict(s.fixed, *design, s.u, eta)
        again: set[int] = set()
        for _ in range(MAX_ITERATIONS):
            value, first, second = family.newton(eta, chunk.rows)
            left = self.ops.advance(
                value, first, second, s.fixed, *design, s.u, s.base, s.step, s.record, s.status,
                eta,
            )  # fmt: skip
            if left < 0:
                failed = -1 - left
                if failed in again:
                    raise self._no_value(failed, "random effects without a mode")
                again.add(failed)  # a warm start from far away may fail where zero does not
                s.u[failed], s.status[failed] = 0.0, 0
                self.ops.predict(s.fixed, *design, s.u, eta)
            if left:
                continue
            found = family.derivatives(eta, chunk.rows)
            if not self.ops.settle(
                found.value, found.first, found.second, *design, s.u, s.status, s.h, s.score,
                s.A, s.L, s.Linv,
            ):  # fmt: skip
                return found
        here = slice(chunk.start, chunk.stop)
        j = chunk.start + int(np.argmax(s.status[here] != 2))
        raise self._no_value(j, f"random effects without a mode after {MAX_ITERATIONS} steps")

    def _no_value(self, cluster: int, what: str) -> LikelihoodError:
        return LikelihoodError(
            "Every cluster needs a finite likelihood with one mode of its random effects.",
            f"{what}, cluster {int(self.rows.levels[cluster])} (counted from 0)",
            "take a shorter step, rescale the predictors, or look at this cluster's rows",
        )

    def gradient(self) -> Array:
        """``d criterion / d psi`` (P,) at the point last set, exact."""
        basis = self.problem.factor_slopes(self.psi)[0]
        theta = np.tensordot(basis, self.state.LamBar.sum(axis=0), axes=2)
        return np.concatenate(
            [-2.0 * self.rows.sorted.total(self.state.rho), -2.0 * theta]
        )  # fmt: skip

    def cluster_scores(self) -> Array:
        """``d log L_j / d psi`` (J, P) by level; zeros for levels without rows."""
        rows = self.rows
        basis = self.problem.factor_slopes(self.psi)[0]
        out = np.zeros((rows.n_levels, self.problem.n_parameters))
        p = self.problem.n_fixed
        out[rows.levels, :p] = rows.sorted.by_cluster(self.state.rho, rows.ptr[:-1])
        out[rows.levels, p:] = np.tensordot(self.state.LamBar, basis, axes=([1, 2], [1, 2]))
        return out

    def log_likelihoods(self) -> Array:
        """``log L_j`` (J,) by level at the point last set; zeros for levels without rows."""
        out = np.zeros(self.rows.n_levels)
        out[self.rows.levels] = self.state.log_value
        return out

    def modes(self) -> list[Array]:
        """Conditional modes of ``u``: one array (J, q)."""
        return [self._all_levels(self.state.u)]

    def mode_covariance(self, block: int, levels: Sequence[int] | None = None) -> Array:
        """Conditional covariance of ``u`` (J', q, q): ``H^-1``, or that of the quadrature."""
        self._check_block(block)
        q = self.state.u.shape[1]
        out = np.broadcast_to(np.eye(q), (self.rows.n_levels, q, q)).copy()
        out[self.rows.levels] = self._covariance()
        return out if levels is None else out[np.asarray(levels)]

    def _check_block(self, block: int) -> None:
        if block != 0:
            raise LikelihoodError(
                "This model has one grouping factor, block 0.", f"block {block}", "ask for block 0"
            )

    def _covariance(self) -> Array:
        return self.state.Linv.transpose(0, 2, 1) @ self.state.Linv

    def _all_levels(self, values: Array) -> Array:
        out = np.zeros((self.rows.n_levels, *values.shape[1:]))
        out[self.rows.levels] = values
        return out

    def set_modes(self, modes: Sequence[Array]) -> None:
        """Start the next search from these (J, q)."""
        start = np.asarray(modes[0], dtype=float)
        wanted = (self.rows.n_levels, self.state.u.shape[1])
        if start.shape != wanted or not np.isfinite(start).all():
            raise LikelihoodError(
                f"Modes must be a finite array of shape {wanted}.",
                f"shape {start.shape}",
                "pass what modes() returned for a model of this size",
            )
        self._modes[:] = start[self.rows.levels]


def operations(kind: str, compiled: bool) -> ModuleType:
    """The kernels of one kind, compiled or plain; numba is imported only for the former."""
    return import_module(f"{_HOME}.{kind}_{'kernels' if compiled else 'plain'}")
