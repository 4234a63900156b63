"""One door to the engines of generalized models: which approximation handles which design."""

from __future__ import annotations

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.crossed import CrossedLaplace
from multilevel.likelihood.generalized.nested import NestedLaplace
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.generalized.related import RelatedLaplace
from multilevel.likelihood.generalized.related_layout import is_general
from multilevel.likelihood.generalized.single_level import SingleLevel
from multilevel.likelihood.generalized.sparse_grid import is_sparse
from multilevel.likelihood.generalized.sparse_quadrature import SparseQuadrature
from multilevel.likelihood.generalized.tree import TreeQuadrature
from multilevel.likelihood.generalized.tree_rows import is_chain
from multilevel.likelihood.location_scale.objective import LocationScale, reduces


def make_objective(
    problem: GeneralizedProblem, points: int | tuple[int, ...] | None = None
) -> GeneralizedObjective:
    """Build the objective of a problem.

    Parameters
    ----------
    problem : the frozen arrays.
    points : quadrature points per dimension, one number or one per block; None or 1: Laplace.

    Raises
    ------
    LikelihoodError : points that are no positive whole numbers, or a design that no engine
        handles with this approximation; the message names what is possible.
    """
    wanted = _points(problem, points)
    if not problem.blocks:
        return SingleLevel(problem)
    if is_general(problem):
        return _general(problem, wanted)
    if reduces(problem):
        return LocationScale(problem, wanted[0])
    if len(problem.blocks) == 1:
        if wanted == (1,):
            return NestedLaplace(problem)
        if is_sparse(wanted[0], problem.blocks[0].columns.shape[1]):
            return SparseQuadrature(problem, wanted[0])
        return NestedQuadrature(problem, wanted[0])
    if all(k == 1 for k in wanted):
        return CrossedLaplace(problem)
    if is_chain(problem):
        return TreeQuadrature(problem, wanted)
    raise LikelihoodError(
        "Adaptive quadrature needs one grouping factor, or factors each nested in the next.",
        f"{len(problem.blocks)} factors that are not such a chain, {wanted} points",
        "use the Laplace approximation (1 point)",
    )


def _general(problem: GeneralizedProblem, points: tuple[int, ...]) -> RelatedLaplace:
    """The engine of rows with several levels and of levels that are correlated."""
    if any(k > 1 for k in points):
        raise LikelihoodError(
            "Adaptive quadrature needs independent clusters, each with its own random effects.",
            f"rows with several levels or levels that are correlated, {points} points",
            "leave n_quad out, or write n_quad=1 (the Laplace approximation)",
        )
    return RelatedLaplace(problem)


def checked_objective(
    problem: GeneralizedProblem, points: int | tuple[int, ...] | None
) -> GeneralizedObjective:
    """The objective as its error is best estimated: Laplace of nested factors along the chain."""
    if len(problem.blocks) > 1 and has_quadrature(problem):
        return TreeQuadrature(problem, _points(problem, points))
    return make_objective(problem, points)


def has_quadrature(problem: GeneralizedProblem) -> bool:
    """Whether the design has random effects and adaptive quadrature handles it."""
    if is_general(problem):
        return False
    return len(problem.blocks) == 1 or (len(problem.blocks) > 1 and is_chain(problem))


def _points(problem: GeneralizedProblem, points: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Points per block."""
    T = len(problem.blocks)
    given = (1,) * T if points is None else (points,) * T if isinstance(points, int) else points
    if len(given) != T or any(k < 1 for k in given):
        raise LikelihoodError(
            "Quadrature points must be positive, one number or one for each grouping factor.",
            f"{points!r} for {T} grouping factors",
            "give one number, for example 7",
        )
    return given
