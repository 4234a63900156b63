"""Engines of generalized models for factors of less than full rank.

Latent variables make random intercepts of many outcomes move along a few directions: ``Lambda``
(K, K) has r < K columns that are not zero. The columns left are no dimensions of the integral: one
node at zero is exact for them, so the grid has ``points ** r`` nodes whatever K is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.crossed import CrossedLaplace
from multilevel.likelihood.generalized.grid import Grid, gauss_hermite
from multilevel.likelihood.generalized.nested import NestedLaplace
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.generalized.single_level import SingleLevel
from multilevel.likelihood.generalized.tree import MAX_JOINT_NODES, TreeQuadrature
from multilevel.likelihood.generalized.tree_rows import is_chain
from multilevel.model.covariance.structures import FactorMap

Array = NDArray[np.float64]


@dataclass(frozen=True, init=False)
class FreeFactor(FactorMap):
    """``Lambda`` (K, K) with all its elements as parameters, row by row."""

    def __init__(self, width: int) -> None:
        object.__setattr__(self, "basis", np.eye(width * width).reshape(-1, width, width))
        object.__setattr__(self, "terms", ((0, width, "unstructured"),))

    def factor(self, theta: Array) -> Array:
        """``Lambda`` (K, K)."""
        width = self.basis.shape[1]
        return np.ascontiguousarray(np.reshape(theta, (width, width)))

    def slopes(self, theta: Array) -> Array:
        """``dLambda/dtheta`` (r, K, K), the same everywhere."""
        return self.basis[: len(theta)]


def padded_grid(points: int, rank: int, width: int) -> Grid:
    """Product grid over the first ``rank`` of ``width`` dimensions, zero along the others."""
    inner = gauss_hermite(points, rank)
    nodes = np.zeros((inner.n, width))
    nodes[:, :rank] = inner.nodes
    return Grid(nodes, inner.log_weights, points)


class ActiveQuadrature(NestedQuadrature):
    """Adaptive quadrature of one grouping factor over the directions of its covariance matrix."""

    def __init__(self, problem: GeneralizedProblem, points: int, rank: int) -> None:
        self._rank = rank
        super().__init__(problem, points)

    def _grid(self, points: int, q: int) -> Grid:
        return padded_grid(points, self._rank, q)


class ActiveTree(TreeQuadrature):
    """Laplace and nested quadrature of a chain, over the directions of each covariance matrix."""

    def __init__(
        self, problem: GeneralizedProblem, points: tuple[int, ...], ranks: tuple[int, ...]
    ) -> None:
        super().__init__(problem, (1,) * len(points))
        widths = [block.columns.shape[1] for block in problem.blocks]
        self.grids = tuple(
            padded_grid(k, rank, q) for k, rank, q in zip(points, ranks, widths, strict=True)
        )
        N = prod(grid.n for grid in self.grids)
        if N > MAX_JOINT_NODES:
            raise LikelihoodError(
                f"Nested quadrature is limited to {MAX_JOINT_NODES} joint nodes.",
                f"{' x '.join(str(grid.n) for grid in self.grids)} nodes, rows first",
                "use fewer points",
            )
        self.points = tuple(points)
        self.method = "Laplace" if max(points) == 1 else "adaptive quadrature"
        self.branches = self.rows.branches(2 * N * problem.n_parts)
        self.plan = f"units nested in clusters: {self.method} along the chain"


def make_engine(
    problem: GeneralizedProblem, ranks: tuple[int, ...], points: int | tuple[int, ...]
) -> GeneralizedObjective:
    """The objective of a problem whose blocks have these ranks.

    Raises
    ------
    LikelihoodError : quadrature where there is none (crossed clusters), or too many nodes.
    """
    T = len(problem.blocks)
    wanted = (points,) * T if isinstance(points, int) else tuple(points)
    if T == 0:
        return SingleLevel(problem)
    if len(wanted) != T:
        raise LikelihoodError(
            "Quadrature points are one number, or one per grouping (rows before clusters).",
            f"{wanted} for {T} groupings", "give one number",
        )  # fmt: skip
    if T == 1:
        if max(wanted) == 1:
            return NestedLaplace(problem)
        return ActiveQuadrature(problem, wanted[0], ranks[0])
    if is_chain(problem):
        return ActiveTree(problem, wanted, ranks)
    if max(wanted) > 1:
        raise LikelihoodError(
            "Crossed clusters are integrated by the Laplace approximation.",
            f"n_quad={points}", "leave n_quad out",
        )  # fmt: skip
    return CrossedLaplace(problem)
