"""From a generalized design to the frozen problem of its likelihood."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import RandomBlock, Response
from multilevel.design.related import RelatedBlock
from multilevel.errors import EstimationError
from multilevel.likelihood.generalized.families.make import make_rows
from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.related_layout import RelatedEffects
from multilevel.likelihood.generalized.row import RowLikelihood
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RowsOf:
    """Builds row likelihoods of one family with the weights of one design (can be pickled)."""

    family: Family
    precision_weights: Array | None
    frequency_weights: Array | None

    def __call__(
        self, response: Response, order: NDArray[np.intp] | None, random: tuple[int, ...]
    ) -> RowLikelihood:
        """The row likelihood of a response, rows in the given order."""
        return make_rows(
            self.family,
            response,
            order,
            random,
            precision_weights=self.precision_weights,
            frequency_weights=self.frequency_weights,
        )


@dataclass(frozen=True)
class GeneralizedPrepared:
    """A frozen problem and the design that it came from."""

    design: GeneralizedDesign
    problem: GeneralizedProblem


def prepare_generalized(design: GeneralizedDesign) -> GeneralizedPrepared:
    """Assemble the arrays of the likelihood.

    Raises
    ------
    EstimationError : more parameters than rows.
    """
    blocks = tuple(
        _effects(block, parts)
        for block, parts in zip(design.blocks, design.block_parts, strict=True)
    )
    problem = GeneralizedProblem(
        response=design.response,
        fixed=tuple(FixedPart(part.X, part.offset) for part in design.parts),
        blocks=blocks,
        rows_of=RowsOf(design.family, design.precision_weights, design.frequency_weights),
    )
    if problem.n_parameters >= problem.n:
        raise EstimationError(
            "There must be more rows than parameters.",
            f"{problem.n} analysed rows and {problem.n_parameters} parameters",
            "use fewer predictors or random effects, or more data",
        )
    return GeneralizedPrepared(design, problem)


def _effects(block: RandomBlock, parts: tuple[int, ...]) -> EffectBlock:
    """The arrays of one grouping factor."""
    own = (block.codes, block.n_levels, block.columns, parts, block.structure)
    if isinstance(block, RelatedBlock):
        return RelatedEffects(*own, block.loadings, block.relation)
    return EffectBlock(*own)


def with_outcome(prepared: GeneralizedPrepared, y: Array) -> GeneralizedPrepared:
    """The same problem with another response, (n,) in the units of ``Response.y``."""
    y = np.ascontiguousarray(y, dtype=np.float64)
    old = prepared.design.response
    if y.shape != old.y.shape:
        raise EstimationError(
            "A new response must have one value per analysed row.",
            f"shape {y.shape} for {len(old.y)} rows",
            "pass the response of the analysed rows, in their order",
        )
    if not np.all(np.isfinite(y)):
        bad = int(np.flatnonzero(~np.isfinite(y))[0])
        raise EstimationError(
            "A new response must be finite.",
            f"the value {y[bad]} at analysed row {bad}",
            "leave such rows out before fitting",
        )
    response = replace(old, y=y, upper=None if old.upper is None else y)
    design = replace(prepared.design, response=response, mean=replace(prepared.design.mean, y=y))
    return GeneralizedPrepared(design, replace(prepared.problem, response=response))
