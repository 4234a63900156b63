"""Adaptive Gauss-Hermite quadrature of a model with one grouping factor, with exact gradient.

    log L_j = log sum_k exp{log w_k + t_k't_k/2 + h(u~ + L^-T t_k)} - log|L|,   H = LL'

One point is Laplace exactly. Sources: Liu & Pierce 1994; Pinheiro & Bates 1995.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.cluster_objective import ClusterObjective, operations
from multilevel.likelihood.generalized.clusters import Chunk
from multilevel.likelihood.generalized.correction import Correction
from multilevel.likelihood.generalized.grid import Grid, gauss_hermite
from multilevel.likelihood.generalized.importance import LEAST_PAIRS, sample_likelihood
from multilevel.likelihood.generalized.nested_error import (
    compare_with_more,
    more_points,
    sampled_error,
    second_order_error,
    second_order_terms,
)
from multilevel.likelihood.generalized.objective import ErrorEstimate
from multilevel.likelihood.generalized.problem import GeneralizedProblem

Array = NDArray[np.float64]


class NestedQuadrature(ClusterObjective):
    """Adaptive quadrature with ``points`` per random effect (``GeneralizedObjective``).

    Parameters
    ----------
    problem, compiled, threads : as in ``ClusterObjective``.
    points : points per dimension; with one, the result is the Laplace approximation.

    Raises
    ------
    LikelihoodError : more nodes than ``grid.MAX_NODES``.
    """

    method = "adaptive quadrature"

    def __init__(
        self,
        problem: GeneralizedProblem,
        points: int,
        *,
        compiled: bool | None = None,
        threads: int | None = None,
    ) -> None:
        q = sum(block.columns.shape[1] for block in problem.blocks)
        self.grid = self._grid(points, q)
        super().__init__(problem, compiled=compiled, threads=threads)
        self.points = (points,)
        self.integrals = operations("quadrature", self.compiled)
        self._mean = np.zeros_like(self.state.u)
        self._moment = np.zeros_like(self.state.A)

    def _grid(self, points: int, q: int) -> Grid:
        return gauss_hermite(points, q)

    def _nodes_per_cluster(self) -> int:
        return self.grid.n

    def _numbers_per_row(self) -> int:
        return max(super()._numbers_per_row(), 2 * self.grid.n * self.problem.n_parts)

    def _evaluate(self, chunk: Chunk) -> None:
        """Modes, integrals and gradient pieces of one chunk."""
        s, rows, grid = self.state, self.rows, self.grid
        found = self._find_modes(chunk)
        design = (rows.Z, rows.ptr, rows.column_part, rows.random, chunk.start, chunk.stop)
        eta = np.empty((self.problem.n_parts, grid.n, chunk.n_rows))
        self.integrals.predict_nodes(s.fixed, *design, s.Lam, s.u, s.Linv, grid.nodes, eta)
        value, first = rows.sorted.likelihood.first(eta, chunk.rows)
        self.integrals.sum_nodes(
            value, first, *design, s.Lam, s.u, s.L, s.Linv, grid.nodes, grid.log_weights,
            s.log_value, s.rho, s.LamBar, s.W, s.ubar, self._mean, self._moment,
        )  # fmt: skip
        self._adjoint(chunk, found)

    def means(self) -> list[Array]:
        """Posterior means of ``u`` by the same quadrature: one array (J, q)."""
        return [self._all_levels(self._mean)]

    def _covariance(self) -> Array:
        shift = self._mean - self.state.u
        return self._moment - shift[:, :, None] * shift[:, None, :]

    def error_estimate(self, rng: np.random.Generator, draws: int) -> ErrorEstimate:
        """Estimated error at the point last set, by ``estimate_error``."""
        return estimate_error(self, rng, draws)

    def correction(self, rng: np.random.Generator, draws: int) -> Correction:
        """The error with its draws, by ``cluster_correction``."""
        return cluster_correction(self, rng, draws)


def estimate_error(
    objective: ClusterObjective, rng: np.random.Generator, draws: int
) -> ErrorEstimate:
    """Estimate the error of an evaluated objective: more points, or sampling where too many.

    Parameters
    ----------
    objective : Laplace or quadrature, evaluated.
    rng, draws : importance sampling with ``draws`` draws in each cluster, used where a finer grid
        would be too large; Laplace with fewer than 8 draws: the second-order term instead.
    """
    q, points = objective.state.u.shape[1], objective.points[0]
    wanted = more_points(points, q)
    if wanted is not None:
        finer = NestedQuadrature(
            objective.problem, wanted, compiled=objective.compiled, threads=objective.threads
        )
        finer.set_modes(objective.modes())
        value = finer.value(objective.psi)
        return compare_with_more(objective.criterion, value, points, wanted)
    if points > 1 or draws >= 2 * LEAST_PAIRS:
        return sampled_error(objective, objective.criterion, rng, draws)
    return second_order_error(objective)


def cluster_correction(
    objective: ClusterObjective, rng: np.random.Generator, draws: int
) -> Correction:
    """The error by importance sampling, draw by draw; with fewer than 8 draws the second-order term
    of a Laplace approximation (NaN for quadrature, which has none)."""
    if draws >= 2 * LEAST_PAIRS:
        sampled = sample_likelihood(objective, rng, draws)
        return Correction(objective.criterion - sampled.criterion, sampled.log_weights)
    if objective.points[0] > 1:
        return Correction(float("nan"))
    return Correction(2.0 * float(second_order_terms(objective).sum()))
