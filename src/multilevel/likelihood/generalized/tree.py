"""Three levels: Laplace and nested adaptive quadrature of a factor nested in another.

Given the coarse effects, units are independent, so the integral is one grid over the coarse
effects of products of grids over the units' effects; the units' nodes move with the coarse node
(Pinheiro & Chao 2006). One point each is Laplace exactly; the gradient is exact for any points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.arrow import Arrow, arrow_adjoint, node_adjoint
from multilevel.likelihood.generalized.cluster_objective import COMPILED_FROM, operations
from multilevel.likelihood.generalized.grid import gauss_hermite, log_sum
from multilevel.likelihood.generalized.objective import ErrorEstimate
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.row import RowDerivatives
from multilevel.likelihood.generalized.tree_error import sample_tree
from multilevel.likelihood.generalized.tree_modes import BranchPoint, BranchSearch
from multilevel.likelihood.generalized.tree_rows import Branch, sort_by_tree

Array = NDArray[np.float64]

MAX_JOINT_NODES = 16_384
AFFORDABLE_JOINT = 3_000  # joint nodes up to which "more points" is preferred to sampling


class TreeQuadrature:
    """``-2 log L`` of two nested factors (``GeneralizedObjective``).

    Parameters
    ----------
    problem : two blocks, the first nested in the second.
    points : points per random effect of the finer and of the coarser factor.
    compiled : compiled row kernels or their NumPy twins (None: by size).

    Raises
    ------
    LikelihoodError : another design, or too many nodes.
    """

    def __init__(
        self,
        problem: GeneralizedProblem,
        points: tuple[int, int],
        *,
        compiled: bool | None = None,
    ) -> None:
        self.problem = problem
        self.rows = sort_by_tree(problem)
        self.points: tuple[int, ...] = tuple(points)
        self.method = "Laplace" if max(points) == 1 else "adaptive quadrature"
        q2 = self.rows.q2
        q3 = self.rows.Z.shape[0] - q2
        self.grid2, self.grid3 = gauss_hermite(points[0], q2), gauss_hermite(points[1], q3)
        N = self.grid2.n * self.grid3.n
        if N > MAX_JOINT_NODES:
            raise LikelihoodError(
                f"Nested quadrature is limited to {MAX_JOINT_NODES} joint nodes.",
                f"{self.grid2.n} nodes for the finer factor times {self.grid3.n} for the coarser",
                "use fewer points",
            )
        work = problem.n * N * (q2 + q3)
        self.compiled = work >= COMPILED_FROM if compiled is None else compiled
        self.ops = operations("tree", self.compiled)
        self.branches = self.rows.branches(2 * N * problem.n_parts)
        J, G = self.rows.ptr.size - 1, self.rows.uptr.size - 1
        self.plan = (
            f"{J} units nested in {G} clusters: {self.method} along the chain, "
            f"{'compiled' if self.compiled else 'plain'} kernels"
        )
        self.n_evaluations = 0
        self.psi, self.criterion = np.zeros(problem.n_parameters), np.nan
        self._u2, self._u3 = np.zeros((J, q2)), np.zeros((G, q3))
        self._log_value = np.zeros(G)
        self._rho = np.zeros((problem.n_parts, problem.n))
        self._LamBar = np.zeros((J, q2 + q3, q2 + q3))
        self._mean2, self._cov2 = np.zeros((J, q2)), np.zeros((J, q2, q2))
        self._mean3, self._cov3 = np.zeros((G, q3)), np.zeros((G, q3, q3))

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
        Lam, fixed = self._at(psi)
        u2, u3 = self._u2.copy(), self._u3.copy()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            for branch in self.branches:
                search = BranchSearch(self.rows, branch, self.ops, Lam, fixed)
                own2, own3 = u2[branch.units], u3[branch.clusters]
                found = search.run(own2, own3)
                if found is None:  # a warm start from far away may fail where zero does not
                    own2[:], own3[:] = 0.0, 0.0
                    found = search.run(own2, own3)
                if found is None:
                    raise self._no_value(branch.clusters.start + (search.failed or 0))
                self._integrate(search, *found, own2, own3)
        total = float(self._log_value.sum())
        if not np.isfinite(total):
            raise self._no_value(int(np.flatnonzero(~np.isfinite(self._log_value))[0]))
        self._u2, self._u3, self.psi, self.criterion = u2, u3, psi, -2.0 * total
        return self.criterion

    def _at(self, psi: Array) -> tuple[Array, Array]:
        """``Lambda`` of both factors (Q, Q) and the fixed predictors (D, n)."""
        fixed = self.rows.sorted.fixed_predictors([psi[s] for s in self.problem.fixed_slices])
        Q, q2 = self.rows.Z.shape[0], self.rows.q2
        Lam = np.zeros((Q, Q))
        Lam[:q2, :q2], Lam[q2:, q2:] = self.problem.factors(psi)
        return Lam, fixed

    def _no_value(self, cluster: int) -> LikelihoodError:
        return LikelihoodError(
            "Every cluster needs a finite likelihood with one mode of its random effects.",
            f"none in cluster {int(self.rows.cluster_levels[cluster])} (counted from 0)",
            "take a shorter step, rescale the predictors, or look at this cluster's rows",
        )

    def _integrate(
        self, search: BranchSearch, point: BranchPoint, rows: RowDerivatives, u2: Array, u3: Array
    ) -> None:
        """Value and gradient pieces of one run of clusters at its modes."""
        branch, arrow, q2 = search.branch, point.arrow, self.rows.q2
        t2, t3 = self.grid2, self.grid3
        d = np.einsum("gba,kb->gka", arrow.E3, t3.nodes)
        x = np.einsum("jba,jkb->jka", arrow.F, d[arrow.cluster])
        spread = t2.nodes[None, None] - x[:, :, None, :]
        U2 = u2[:, None, None, :] + np.einsum("jba,jklb->jkla", arrow.E, spread)
        U3 = u3[:, None, :] + d
        J, K, M = U2.shape[:3]
        U = np.empty((J, K, M, self._LamBar.shape[1]))
        U[..., :q2], U[..., q2:] = U2, U3[arrow.cluster][:, :, None, :]
        total, zl, first = self._at_nodes(search, U.reshape(J, K * M, -1))
        s = total.reshape(J, K, M) + t2.log_weights - 0.5 * (U2 * U2).sum(axis=-1)
        inner, inner_weights = log_sum(s)
        outer = t3.log_weights - 0.5 * (U3 * U3).sum(axis=-1) + arrow.sum_units(inner)
        log_value, pi = log_sum(outer)
        weights = pi[arrow.cluster][:, :, None] * inner_weights
        self._log_value[branch.clusters] = log_value - arrow.half_log_det
        self.ops.weight_rows(
            first, self.rows.ptr, branch.units.start, branch.units.stop,
            np.ascontiguousarray(weights.reshape(J, K * M)), self._rho,
        )  # fmt: skip
        zl = np.where(weights.reshape(J, K * M, 1) > 0.0, zl, 0.0)
        weighted = weights.reshape(J, K * M, 1) * zl
        self._LamBar[branch.units] = weighted.transpose(0, 2, 1) @ U.reshape(J, K * M, -1)
        pull = (zl @ search.Lam).reshape(J, K, M, -1)
        pull3 = arrow.sum_units(np.einsum("jkl,jkla->jka", weights, pull[..., q2:]))
        pull3 -= pi[:, :, None] * U3
        nodes = node_adjoint(arrow, t2.nodes, t3.nodes, weights, pull[..., :q2] - U2, pull3)
        H_bar = arrow_adjoint(arrow, nodes)
        self._finish(search, point, rows, u2, u3, H_bar, nodes.u2, nodes.u3)
        self._moments(branch, arrow, weights, pi, U2, U3)

    def _at_nodes(self, search: BranchSearch, U: Array) -> tuple[Array, Array, Array]:
        """``sum l`` (J, N), ``Z'l'`` (J, N, Q) and ``l'`` (D, N, m) at joint nodes (J, N, Q)."""
        rows, branch = self.rows, search.branch
        design = (rows.Z, rows.ptr, rows.column_part, rows.random)
        units = (branch.units.start, branch.units.stop)
        J, N, Q = U.shape
        eta = np.empty((search.fixed.shape[0], N, branch.rows.stop - branch.rows.start))
        effects = np.ascontiguousarray(U @ search.Lam.T)
        self.ops.predict_at(search.fixed, *design, *units, effects, eta)
        value, first = rows.sorted.likelihood.first(eta, branch.rows)
        total, zl = np.empty((J, N)), np.empty((J, N, Q))
        self.ops.unit_sums(value, first, *design, *units, total, zl)
        return total, zl, first

    def _finish(
        self, search: BranchSearch, point: BranchPoint, rows: RowDerivatives, u2: Array,
        u3: Array, H_bar: Array, u2_bar: Array, u3_bar: Array,
    ) -> None:  # fmt: skip
        """The gradient through ``H`` and through the modes (formulas of the one-factor engine)."""
        tree, branch, arrow, q2 = self.rows, search.branch, point.arrow, self.rows.q2
        design = (tree.Z, tree.ptr, tree.column_part, tree.random)
        units = (branch.units.start, branch.units.stop)
        right = search.Lam @ H_bar
        t = np.empty_like(point.score)
        M = np.ascontiguousarray(right @ search.Lam.T)
        self.ops.curvature_rows(rows.third, *design, *units, M, self._rho, t)
        pull = t @ search.Lam
        v2, v3 = arrow.solve(u2_bar + pull[:, :q2], u3_bar + arrow.sum_units(pull[:, q2:]))
        v = search.join(v2, v3)
        effects = np.ascontiguousarray(v @ search.Lam.T)
        self.ops.mode_rows(rows.second, *design, *units, effects, self._rho, t)
        own = self._LamBar[branch.units]
        own += 2.0 * point.A @ right + point.score[:, :, None] * v[:, None, :]
        own += t[:, :, None] * search.join(u2, u3)[:, None, :]
        left = (point.g3 * v3).sum(axis=1) + arrow.sum_units((point.g2 * v2).sum(axis=1))
        self._log_value[branch.clusters] += left

    def _moments(
        self, branch: Branch, arrow: Arrow, weights: Array, pi: Array, U2: Array, U3: Array
    ) -> None:
        """Posterior means and covariances of both factors' effects (one point: ``H^-1``)."""
        mean2 = np.einsum("jkl,jkla->ja", weights, U2)
        mean3 = np.einsum("gk,gka->ga", pi, U3)
        c2, c3 = U2 - mean2[:, None, None, :], U3 - mean3[:, None, :]
        self._mean2[branch.units], self._mean3[branch.clusters] = mean2, mean3
        if max(self.points) == 1:
            self._cov2[branch.units], self._cov3[branch.clusters] = arrow.covariances()
            return
        J, q2 = mean2.shape
        weighted = (weights[..., None] * c2).reshape(J, -1, q2)
        self._cov2[branch.units] = weighted.transpose(0, 2, 1) @ c2.reshape(J, -1, q2)
        self._cov3[branch.clusters] = np.einsum("gk,gka,gkb->gab", pi, c3, c3)

    def gradient(self) -> Array:
        """``d criterion / d psi`` (P,) at the point last set, exact."""
        pieces = [self.rows.sorted.total(self._rho)]
        total, q2 = self._LamBar.sum(axis=0), self.rows.q2
        slopes = self.problem.factor_slopes(self.psi)
        for E, own in zip(slopes, (total[:q2, :q2], total[q2:, q2:]), strict=True):
            pieces.append(np.tensordot(E, own, axes=2))
        return -2.0 * np.concatenate(pieces)

    def cluster_scores(self) -> Array:
        """``d log L_g / d psi`` (G, P) by level of the coarser factor."""
        rows, q2 = self.rows, self.rows.q2
        starts = rows.uptr[:-1]
        pieces = [rows.sorted.by_cluster(self._rho, rows.ptr[starts])]
        total = np.add.reduceat(self._LamBar, starts, axis=0)
        slopes = self.problem.factor_slopes(self.psi)
        for E, own in zip(slopes, (total[:, :q2, :q2], total[:, q2:, q2:]), strict=True):
            pieces.append(np.tensordot(own, E, axes=([1, 2], [1, 2])))
        out = np.zeros((self.problem.blocks[1].n_levels, self.problem.n_parameters))
        out[rows.cluster_levels] = np.concatenate(pieces, axis=1)
        return out

    def modes(self) -> list[Array]:
        """Conditional modes of ``u``: (J, q2) and (G, q3), by level."""
        return self._by_level(self._u2, self._u3)

    def means(self) -> list[Array]:
        """Posterior means of ``u`` by the same quadrature (the modes with one point)."""
        return self._by_level(self._mean2, self._mean3)

    def _by_level(self, fine: Array, coarse: Array) -> list[Array]:
        out = [np.zeros((b.n_levels, b.columns.shape[1])) for b in self.problem.blocks]
        out[0][self.rows.unit_levels], out[1][self.rows.cluster_levels] = fine, coarse
        return out

    def set_modes(self, modes: Sequence[Array]) -> None:
        """Start the next search from these, as ``modes`` gives them.

        Raises
        ------
        LikelihoodError : other shapes, or numbers that are not finite.
        """
        wanted = [(b.n_levels, b.columns.shape[1]) for b in self.problem.blocks]
        if [np.shape(m) for m in modes] != wanted or not all(np.isfinite(m).all() for m in modes):
            raise LikelihoodError(
                f"Modes must be finite arrays of shapes {wanted}.",
                f"shapes {[np.shape(m) for m in modes]}",
                "pass what modes() returned for a model of this size",
            )
        self._u2 = np.array(modes[0][self.rows.unit_levels], dtype=float)
        self._u3 = np.array(modes[1][self.rows.cluster_levels], dtype=float)

    def mode_covariance(self, block: int, levels: Sequence[int] | None = None) -> Array:
        """Conditional covariance of ``u`` (J', q_t, q_t): ``(H^-1)_gg``, or of the quadrature.

        Raises
        ------
        LikelihoodError : a block that is not 0 (finer) or 1 (coarser).
        """
        if block not in (0, 1):
            raise LikelihoodError(
                "A chain of two factors has blocks 0 and 1.", f"block {block}", "ask for 0 or 1"
            )
        own = (self._cov2, self._cov3)[block]
        present = (self.rows.unit_levels, self.rows.cluster_levels)[block]
        q = own.shape[1]
        out = np.broadcast_to(np.eye(q), (self.problem.blocks[block].n_levels, q, q)).copy()
        out[present] = own
        return out if levels is None else out[np.asarray(levels)]

    def error_estimate(self, rng: np.random.Generator, draws: int) -> ErrorEstimate:
        """Estimated error at the point last set: more points, else importance sampling.

        Raises
        ------
        LikelihoodError : too many random effects for more points, and fewer than 8 draws.
        """
        wanted = self._more_points()
        if wanted is not None:
            finer = TreeQuadrature(self.problem, wanted, compiled=self.compiled)
            finer.set_modes(self.modes())
            error = self.criterion - finer.value(self.psi)
            sentence = (
                f"-2 log-likelihood is {abs(error):.3g} too {'high' if error > 0 else 'low'} "
                f"against {wanted[0]} quadrature points for each effect of the finer factor and "
                f"{wanted[1]} for the coarser, at the same parameters."
            )
            return ErrorEstimate(error, 0.0, "more points", sentence)
        sampled = sample_tree(
            self.rows, self.ops, *self._at(self.psi), (self._u2, self._u3), rng, draws
        )
        error = self.criterion - sampled.criterion
        sentence = (
            f"-2 log-likelihood differs by {error:+.3g} (Monte Carlo standard error "
            f"{sampled.std_error:.2g}) from importance sampling with {sampled.draws} draws in "
            "each cluster."
        )
        return ErrorEstimate(error, sampled.std_error, "importance sampling", sentence)

    def _more_points(self) -> tuple[int, int] | None:
        """Points of an affordable finer grid, or None."""
        q2, q3 = self.rows.q2, self.rows.Z.shape[0] - self.rows.q2
        k2, k3 = self.points
        candidates = [(2 * k2 + 1, 2 * k3 + 1), (k2 + 4, k3 + 4), (k2 + 2, k3 + 2)]
        for a, b in candidates if max(k2, k3) > 1 else [(9, 9), (7, 7), (5, 5)]:
            if a**q2 * b**q3 <= AFFORDABLE_JOINT:
                return a, b
        return None
