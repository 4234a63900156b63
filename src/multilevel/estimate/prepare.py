"""From a design to a problem that is ready to be solved, and solved again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design
from multilevel.design.related import is_related
from multilevel.errors import EstimationError
from multilevel.estimate.choose import EnginePlan, choose_engine
from multilevel.likelihood.blocks.accumulate import accumulate
from multilevel.likelihood.blocks.accumulate import with_response as new_response
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.blocks.scaling import Scaling, response_column, scaling_of
from multilevel.likelihood.blocks.threads import blas_threads
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.likelihood.related.products import (
    RelatedProducts,
    related_products,
    with_new_response,
)
from multilevel.model.specification import Method

Array = NDArray[np.float64]

CONDITION_LIMIT = 1e6  # of the Gram of centred and scaled columns; above it a second pass is made


@dataclass(frozen=True)
class Prepared:
    """A frozen problem: design, scaled cross-products and the engine that will be used."""

    design: Design
    cross: CrossProducts
    scaling: Scaling
    engine_plan: EnginePlan
    method: Method

    def objective(self) -> GaussianObjective:
        """A fresh mutable objective on these cross-products."""
        return GaussianObjective(
            self.engine_plan.make(self.cross),
            [block.structure for block in self.design.blocks],
            self.cross.n,
            self.cross.n_fixed,
            self.method == "reml",
            self.cross.sum_log_weights,
        )


def prepare(
    design: Design,
    *,
    method: Method,
    engine: str | None = None,
    report: Callable[[str], None] | None = None,
) -> Prepared:
    """Scale a design, form its cross-products in one pass, and choose the engine.

    Parameters
    ----------
    design : from ``design.build_design``.
    method : ``"reml"`` or ``"ml"``.
    engine : name of an engine, or None for the cheapest that fits in memory.
    report : told what is being done (for progress displays).

    Raises
    ------
    EstimationError : fewer rows than parameters.
    """
    n, p = design.n, design.X.shape[1]
    if n <= p + (1 if method == "reml" else 0):
        raise EstimationError(
            "There must be more rows than fixed effects.",
            f"{n} analysed rows and {p} fixed effects",
            "use fewer predictors or more data",
        )
    if report is not None:
        report("forming cross-products")
    with blas_threads(0):
        scaling = scaling_of(design)
        form = related_products if is_related(design.blocks) else accumulate
        cross: CrossProducts = form(design, scaling)
        for _ in range(2):
            if not _is_ill_conditioned(cross):
                break
            scaling = scaling.orthogonalised(cross.total[:p, :p])
            cross = form(design, scaling)
    plan = choose_engine(cross, engine)
    return Prepared(design, cross, scaling, plan, method)


def _is_ill_conditioned(cross: CrossProducts) -> bool:
    """Whether the scaled fixed-effect columns are so nearly dependent that digits are at stake."""
    p = cross.n_fixed
    if p < 2:
        return False
    values = np.linalg.eigvalsh(cross.total[:p, :p])
    return bool(values[0] * CONDITION_LIMIT < values[-1])


def with_response(prepared: Prepared, y: Array) -> Prepared:
    """The same problem with another response (n,); O(n) work, the design is not built again."""
    y = np.ascontiguousarray(y, dtype=np.float64)
    old = prepared.design
    if y.shape != old.y.shape:
        raise EstimationError(
            "A new response must have one value per analysed row.",
            f"shape {y.shape} for {old.n} rows",
            "pass the response of the analysed rows, in their order",
        )
    if not np.all(np.isfinite(y)):
        bad = int(np.flatnonzero(~np.isfinite(y))[0])
        raise EstimationError(
            "A new response must be finite.",
            f"the value {y[bad]} at analysed row {bad}",
            "leave such rows out before fitting",
        )
    p = old.X.shape[1]
    shifted = y if old.offset is None else y - old.offset
    old_column = prepared.scaling.first[:p, p]
    constant = int(np.flatnonzero(old_column)[0]) if np.any(old_column) else _constant(old)
    scaling = prepared.scaling.with_response(response_column(old.X, shifted, constant))
    design = replace(old, y=y)
    if isinstance(prepared.cross, RelatedProducts):
        cross: CrossProducts = with_new_response(prepared.cross, design, scaling)
    else:
        cross = new_response(prepared.cross, design, scaling)
    return replace(prepared, design=design, scaling=scaling, cross=cross)


def with_method(prepared: Prepared, method: Method) -> Prepared:
    """The same problem under the other estimation method."""
    return replace(prepared, method=method)


def _constant(design: Design) -> int | None:
    """Index of the constant column, if the design has one."""
    return design.names.index("(Intercept)") if "(Intercept)" in design.names else None
