"""Nested factors of any depth: Laplace and nested adaptive quadrature.

Given the effects of all coarser units, units of one level are independent, so the integral is a
grid over the coarsest effects of products of grids over the next ones, and so on to the finest; a
unit's nodes move with those of its ancestors (Pinheiro & Chao 2006, for any depth). The rows are
evaluated at all joint nodes, whose number is the product over the factors. One point each is
Laplace exactly; the gradient is exact for any points.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.arrow import arrow_adjoint, place_nodes
from multilevel.likelihood.generalized.cluster_objective import COMPILED_FROM, operations
from multilevel.likelihood.generalized.correction import Correction
from multilevel.likelihood.generalized.grid import Grid, gauss_hermite, log_sum
from multilevel.likelihood.generalized.importance import LEAST_PAIRS
from multilevel.likelihood.generalized.objective import ErrorEstimate, off_words
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.row import RowDerivatives
from multilevel.likelihood.generalized.tree_error import finer_tree_points, sample_tree
from multilevel.likelihood.generalized.tree_modes import BranchPoint, BranchSearch
from multilevel.likelihood.generalized.tree_rows import TreeRows, sort_by_tree

Array = NDArray[np.float64]

MAX_JOINT_NODES = 16_384
MAX_BYTES = 2e9  # of the arrays over joint nodes of one coarsest cluster


class TreeQuadrature:
    """``-2 log L`` of a chain of nested factors (``GeneralizedObjective``).

    Parameters
    ----------
    problem : two or more blocks, each nested in the next.
    points : points per random effect of each factor, finest first.
    compiled : compiled row kernels or their NumPy twins (None: by size).

    Raises
    ------
    LikelihoodError : another design, too many nodes, or one cluster too large for memory.
    """

    def __init__(
        self,
        problem: GeneralizedProblem,
        points: Sequence[int],
        *,
        compiled: bool | None = None,
    ) -> None:
        self.problem = problem
        self.rows = sort_by_tree(problem)
        self.points: tuple[int, ...] = tuple(points)
        self.method = "Laplace" if max(points) == 1 else "adaptive quadrature"
        widths = self.rows.widths
        _check_joint(self.points, widths)
        self.grids: tuple[Grid, ...] = tuple(
            gauss_hermite(k, q) for k, q in zip(self.points, widths, strict=True)
        )
        N, Q = prod(grid.n for grid in self.grids), sum(widths)
        work = problem.n * N * Q
        self.compiled = work >= COMPILED_FROM if compiled is None else compiled
        self.ops = operations("tree", self.compiled)
        _check_memory(self.rows, N, problem.n_parts)
        self.branches = self.rows.branches(2 * N * problem.n_parts)
        sizes = [len(levels) for levels in self.rows.levels]
        nesting = " nested in ".join(f"{J} units" for J in sizes[:-1])
        self.plan = (
            f"{nesting} nested in {sizes[-1]} clusters: {self.method} along the chain, "
            f"{'compiled' if self.compiled else 'plain'} kernels"
        )
        self.n_evaluations = 0
        self.psi, self.criterion = np.zeros(problem.n_parameters), np.nan
        shapes = list(zip(sizes, widths, strict=True))
        self._u = [np.zeros((J, q)) for J, q in shapes]
        self._log_value = np.zeros(sizes[-1])
        self._rho = np.zeros((problem.n_parts, problem.n))
        self._LamBar = np.zeros((sizes[0], Q, Q))
        self._mean = [np.zeros((J, q)) for J, q in shapes]
        self._cov = [np.zeros((J, q, q)) for J, q in shapes]

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
        u = [own.copy() for own in self._u]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            for branch in self.branches:
                search = BranchSearch(self.rows, branch, self.ops, Lam, fixed)
                here = [own[units] for own, units in zip(u, branch.units, strict=True)]
                found = search.run(here)
                if found is None:  # a warm start from far away may fail where zero does not
                    for own in here:
                        own[:] = 0.0
                    found = search.run(here)
                if found is None:
                    raise self._no_value(branch.clusters.start + (search.failed or 0))
                self._integrate(search, *found, here)
        total = float(self._log_value.sum())
        if not np.isfinite(total):
            raise self._no_value(int(np.flatnonzero(~np.isfinite(self._log_value))[0]))
        self._u, self.psi, self.criterion = u, psi, -2.0 * total
        return self.criterion

    def _at(self, psi: Array) -> tuple[Array, Array]:
        """``Lambda`` of all factors (Q, Q) and the fixed predictors (D, n)."""
        fixed = self.rows.sorted.fixed_predictors([psi[s] for s in self.problem.fixed_slices])
        Lam = np.zeros((len(self.rows.Z), len(self.rows.Z)))
        for at, factor in zip(self._columns(), self.problem.factors(psi), strict=True):
            Lam[at, at] = factor
        return Lam, fixed

    def _columns(self) -> list[slice]:
        """Columns of each factor."""
        ends = np.cumsum([0, *self.rows.widths])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def _no_value(self, cluster: int) -> LikelihoodError:
        return LikelihoodError(
            "Every cluster needs a finite likelihood with one mode of its random effects.",
            f"none in cluster {int(self.rows.levels[-1][cluster])} (counted from 0)",
            "take a shorter step, rescale the predictors, or look at this cluster's rows",
        )

    def _integrate(
        self, search: BranchSearch, point: BranchPoint, rows: RowDerivatives, u: list[Array]
    ) -> None:
        """Value and gradient pieces of one run of clusters at its modes."""
        branch, arrow, shape = search.branch, point.arrow, search.shape
        grids = [grid.nodes for grid in self.grids]
        nodes = place_nodes(arrow, grids)
        U = shape.join(u)[:, None, :] + nodes.joint
        total, zl, first = self._at_nodes(search, U)
        effects = [own[:, None] + move for own, move in zip(u, nodes.moves, strict=True)]
        log_value, weights = self._sum_up(search, total, effects)
        self._log_value[branch.clusters] = log_value - arrow.half_log_det
        leaf = weights[0]
        a, b = branch.units[0].start, branch.units[0].stop
        self.ops.weight_rows(first, self.rows.ptr, a, b, np.ascontiguousarray(leaf), self._rho)
        weighted = leaf[:, :, None] * np.where(leaf[:, :, None] > 0.0, zl, 0.0)
        self._LamBar[branch.units[0]] = weighted.transpose(0, 2, 1) @ U
        prior = [-w[:, :, None] * own for w, own in zip(weights, effects, strict=True)]
        pull = weighted @ search.Lam
        H_bar = arrow_adjoint(arrow, nodes, grids, prior, pull)
        u_bar = [
            rows_pull + own.sum(axis=1)
            for rows_pull, own in zip(shape.split(pull.sum(axis=1)), prior, strict=True)
        ]
        self._finish(search, point, rows, u, H_bar, u_bar)
        self._moments(search, point, weights, effects)

    def _sum_up(
        self, search: BranchSearch, total: Array, effects: Sequence[Array]
    ) -> tuple[Array, list[Array]]:
        """Log integrals (G,) and posterior weights (J_t, N_t) of the joint nodes of each level."""
        value, conditional = total, []
        for t, (grid, own) in enumerate(zip(self.grids, effects, strict=True)):
            s = (value - 0.5 * (own * own).sum(axis=2)).reshape(len(own), -1, grid.n)
            value, weights = log_sum(s + grid.log_weights)
            conditional.append(weights)
            if t < len(effects) - 1:
                value = search.shape.up(value, t)
        joint = conditional[-1].reshape(len(value), -1)
        found = [joint]
        for t in reversed(range(len(effects) - 1)):
            above = joint[search.shape.parents[t]][:, :, None]
            joint = (above * conditional[t]).reshape(len(conditional[t]), -1)
            found.insert(0, joint)
        return value[:, 0], found

    def _at_nodes(self, search: BranchSearch, U: Array) -> tuple[Array, Array, Array]:
        """``sum l`` (J, N), ``Z'l'`` (J, N, Q) and ``l'`` (D, N, m) at joint nodes (J, N, Q)."""
        rows, at = self.rows, search.branch.rows
        J, N, Q = U.shape
        eta = np.empty((search.fixed.shape[0], N, at.stop - at.start))
        effects = np.ascontiguousarray(U @ search.Lam.T)
        self.ops.predict_at(search.fixed, *search.design, effects, eta)
        value, first = rows.sorted.likelihood.first(eta, at)
        total, zl = np.empty((J, N)), np.empty((J, N, Q))
        self.ops.unit_sums(value, first, *search.design, total, zl)
        return total, zl, first

    def _finish(
        self, search: BranchSearch, point: BranchPoint, rows: RowDerivatives, u: list[Array],
        H_bar: Array, u_bar: list[Array],
    ) -> None:  # fmt: skip
        """The gradient through ``H`` and through the modes (formulas of the one-factor engine)."""
        shape, branch = search.shape, search.branch
        right = search.Lam @ H_bar
        t = np.empty_like(point.score)
        M = np.ascontiguousarray(right @ search.Lam.T)
        self.ops.curvature_rows(rows.third, *search.design, M, self._rho, t)
        pull = shape.split(t @ search.Lam)
        v = point.arrow.solve([a + b for a, b in zip(u_bar, pull, strict=True)])
        joined = shape.join(v)
        effects = np.ascontiguousarray(joined @ search.Lam.T)
        self.ops.mode_rows(rows.second, *search.design, effects, self._rho, t)
        own = self._LamBar[branch.units[0]]
        own += 2.0 * point.A @ right + point.score[:, :, None] * joined[:, None, :]
        own += t[:, :, None] * shape.join(u)[:, None, :]
        self._log_value[branch.clusters] += search.inner(point.slopes, v)

    def _moments(
        self, search: BranchSearch, point: BranchPoint, weights: list[Array], effects: list[Array]
    ) -> None:
        """Posterior means and covariances of every factor's effects (one point: ``H^-1``)."""
        laplace = point.arrow.covariances() if max(self.points) == 1 else None
        for t, (w, U) in enumerate(zip(weights, effects, strict=True)):
            here = search.branch.units[t]
            mean = np.einsum("jn,jnq->jq", w, U)
            self._mean[t][here] = mean
            if laplace is not None:
                self._cov[t][here] = laplace[t]
                continue
            centred = U - mean[:, None, :]
            self._cov[t][here] = (w[:, :, None] * centred).transpose(0, 2, 1) @ centred

    def gradient(self) -> Array:
        """``d criterion / d psi`` (P,) at the point last set, exact."""
        pieces = [self.rows.sorted.total(self._rho)]
        total = self._LamBar.sum(axis=0)
        for E, at in zip(self.problem.factor_slopes(self.psi), self._columns(), strict=True):
            pieces.append(np.tensordot(E, total[at, at], axes=2))
        return -2.0 * np.concatenate(pieces)

    def cluster_scores(self) -> Array:
        """``d log L_g / d psi`` (G, P) by level of the coarsest factor."""
        rows, starts = self.rows, self.rows.first_units[:-1]
        pieces = [rows.sorted.by_cluster(self._rho, rows.ptr[starts])]
        total = np.add.reduceat(self._LamBar, starts, axis=0)
        for E, at in zip(self.problem.factor_slopes(self.psi), self._columns(), strict=True):
            pieces.append(np.tensordot(total[:, at, at], E, axes=([1, 2], [1, 2])))
        out = np.zeros((self.problem.blocks[-1].n_levels, self.problem.n_parameters))
        out[rows.levels[-1]] = np.concatenate(pieces, axis=1)
        return out

    def modes(self) -> list[Array]:
        """Conditional modes of ``u`` by factor, (J_t, q_t) each."""
        return self._by_level(self._u)

    def means(self) -> list[Array]:
        """Posterior means of ``u`` by the same quadrature (the modes with one point)."""
        return self._by_level(self._mean)

    def _by_level(self, values: Sequence[Array]) -> list[Array]:
        out = [np.zeros((b.n_levels, b.columns.shape[1])) for b in self.problem.blocks]
        for target, levels, own in zip(out, self.rows.levels, values, strict=True):
            target[levels] = own
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
        pairs = zip(modes, self.rows.levels, strict=True)
        self._u = [np.array(m[levels], dtype=float) for m, levels in pairs]

    def mode_covariance(self, block: int, levels: Sequence[int] | None = None) -> Array:
        """Conditional covariance of ``u`` (J', q_t, q_t): ``(H^-1)_gg``, or of the quadrature.

        Raises
        ------
        LikelihoodError : a block that does not exist.
        """
        T = len(self.problem.blocks)
        if block not in range(T):
            known = " and ".join(map(str, range(T))) if T == 2 else f"0 to {T - 1}"
            raise LikelihoodError(
                f"A chain of {T} factors has blocks {known}.", f"block {block}", "ask for one"
            )
        own = self._cov[block]
        q = own.shape[1]
        out = np.broadcast_to(np.eye(q), (self.problem.blocks[block].n_levels, q, q)).copy()
        out[self.rows.levels[block]] = own
        return out if levels is None else out[np.asarray(levels)]

    def error_estimate(self, rng: np.random.Generator, draws: int) -> ErrorEstimate:
        """Estimated error at the point last set: more points, else importance sampling.

        Raises
        ------
        LikelihoodError : too many random effects for more points, and fewer than 8 draws.
        """
        wanted = finer_tree_points(self.points, self.rows.widths, self.problem.n)
        if wanted is not None:
            finer = TreeQuadrature(self.problem, wanted, compiled=self.compiled)
            finer.set_modes(self.modes())
            error = self.criterion - finer.value(self.psi)
            sentence = (
                f"-2 log-likelihood is {off_words(error)} "
                f"against {' x '.join(map(str, wanted))} quadrature points for the effects of the "
                "factors, finest first, at the same parameters."
            )
            return ErrorEstimate(error, 0.0, "more points", sentence)
        sampled = sample_tree(self.rows, self.ops, *self._at(self.psi), self._u, rng, draws)
        error = self.criterion - sampled.criterion
        sentence = (
            f"-2 log-likelihood differs by {error:+.3g} (Monte Carlo standard error "
            f"{sampled.std_error:.2g}) from importance sampling with {sampled.draws} draws in "
            "each cluster."
        )
        return ErrorEstimate(error, sampled.std_error, "importance sampling", sentence)

    def correction(self, rng: np.random.Generator, draws: int) -> Correction:
        """The error with its draws; NaN below 8 draws, for which nothing is known."""
        if draws < 2 * LEAST_PAIRS:
            return Correction(float("nan"))
        sampled = sample_tree(self.rows, self.ops, *self._at(self.psi), self._u, rng, draws)
        return Correction(self.criterion - sampled.criterion, sampled.log_weights)


def _check_joint(points: Sequence[int], widths: Sequence[int]) -> None:
    """Refuse a product of grids that no cluster could be evaluated on."""
    N = prod(k**q for k, q in zip(points, widths, strict=True))
    if N > MAX_JOINT_NODES:
        sum_of = " x ".join(f"{k}^{q}" for k, q in zip(points, widths, strict=True))
        most = int(MAX_JOINT_NODES ** (1.0 / sum(widths)) + 1e-9)
        raise LikelihoodError(
            f"Nested quadrature is limited to {MAX_JOINT_NODES:,} joint nodes.",
            f"{sum_of} = {N:,} (points to the power of the random effects of each factor, finest "
            "first)",
            f"use at most {most} points each, or fewer for one factor, such as n_quad=("
            + ", ".join(["1", *["3"] * (len(points) - 1)])
            + "), or the Laplace approximation, n_quad=1"
            if most > 1
            else "use the Laplace approximation, n_quad=1",
        )


def _check_memory(rows: TreeRows, n_nodes: int, n_parts: int) -> None:
    """Refuse a coarsest cluster whose joint nodes do not fit into memory."""
    firsts = rows.first_units
    most_rows = int(np.diff(rows.ptr[firsts]).max())
    most_units = int(np.diff(firsts).max())
    numbers = n_nodes * (most_rows * (2 * n_parts + 1) + most_units * 5 * len(rows.Z))
    if 8.0 * numbers > MAX_BYTES:
        raise LikelihoodError(
            f"All joint nodes of one coarsest cluster must fit into {MAX_BYTES / 1e9:.0f} GB.",
            f"{n_nodes:,} nodes x {most_rows:,} rows of the largest cluster: "
            f"{8e-9 * numbers:.1f} GB",
            "use fewer points (n_quad=3), or the Laplace approximation, n_quad=1",
        )
