"""How a residual structure beside crossed random effects is computed: by cluster, or laid out."""

from __future__ import annotations

from dataclasses import replace

from multilevel.errors import EstimationError
from multilevel.estimate.choose import EnginePlan
from multilevel.estimate.prepare import Prepared
from multilevel.likelihood.residual.arrow_layout import ArrowLayout, arrow_layout
from multilevel.likelihood.residual.crossed import check_size
from multilevel.likelihood.residual.objective import StructuredProblem


def crossed_plan(
    plain: Prepared, problem: StructuredProblem
) -> tuple[EnginePlan, ArrowLayout | None]:
    """The plan, and the layout of leaf and core (None: all effects in one dense matrix).

    Raises
    ------
    EstimationError : standard deviations of random effects that depend on predictors.
    LikelihoodError : too many effects, units that are too large.
    """
    if problem.scales.n_parameters:
        raise EstimationError(
            "random_scale= beside residual= or scale= needs nested grouping factors.",
            "levels that cross the units of the residuals, or one another",
            "leave random_scale out",
        )
    arrow = arrow_layout(problem)
    if arrow is None:
        check_size(problem)
        why = (
            "dense engine of crossed factors: the covariance of all random effects is laid out;"
            " cost grows with the cube of their number"
        )
        return replace(plain.engine_plan, sentence=why), None
    core = ", ".join(plain.design.blocks[t].group for t in arrow.core)
    rest = f"; the {arrow.n_effects:,} effects of {core} in one dense matrix" if core else ""
    why = (
        f"leaf by cluster: {arrow.n_clusters:,} clusters of rows, each with its own effects, go"
        f" first{rest}"
    )
    return replace(plain.engine_plan, sentence=why, order=arrow.n_effects), arrow
