"""How many quadrature points a location-scale model gets where the caller named none.

Laplace is poor for log variances of small clusters, so points are spent as long as they are
affordable: 11 per dimension for one location and one scale effect (Hedeker & Nordgren 2013), 5 for
more effects or for nested factors.
"""

from __future__ import annotations

from multilevel.likelihood.generalized.choose import has_quadrature
from multilevel.likelihood.generalized.grid import MAX_NODES
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.location_scale.objective import reduces

PAIR_POINTS, FEW_POINTS = 11, 5
AFFORDABLE = 10_000_000  # rows x nodes of one evaluation: about a second


def scale_points(problem: GeneralizedProblem) -> int | None:
    """Points per dimension; None leaves the choice to ``accuracy.default_points`` (models without
    random scale effects, and Gaussian ones in which only the scale effect is integrated)."""
    if len(problem.random_parts) < 2 or reduces(problem):
        return None
    widths = [block.columns.shape[1] for block in problem.blocks]
    if widths == [2]:
        return PAIR_POINTS
    nodes = FEW_POINTS ** sum(widths)
    affordable = has_quadrature(problem) and nodes <= MAX_NODES and nodes * problem.n <= AFFORDABLE
    return FEW_POINTS if affordable else 1
