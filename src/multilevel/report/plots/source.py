"""What a picture is made from: the problem, its fit, and the random effects given the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design, RandomBlock
from multilevel.errors import InferenceError
from multilevel.estimate.posterior import BlockEffects
from multilevel.estimate.records import Fit
from multilevel.infer.degrees_of_freedom import DF_NAMES, DfApproach
from multilevel.infer.means_tests import critical_values
from multilevel.interpret.variance import is_nested

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PictureSource:
    """One fit, ready to be drawn.

    Attributes
    ----------
    design, fit : the analysed rows and the estimates, user units.
    effects : random effects of each block, in the design's order.
    approach : degrees of freedom for bands of the fixed effects; None gives normal bands.
    scaled : (n,) conditional residuals over their model standard deviations, correlation taken
        out, where the residuals have a structure.
    """

    design: Design
    fit: Fit
    effects: tuple[BlockEffects, ...]
    approach: DfApproach | None = None
    scaled: Array | None = None

    def half_width(self, rows: Array, conf_level: float = 0.95) -> Array:
        """Half the confidence interval (m,) of ``rows`` (m, p) times the fixed effects."""
        vcov = self.fit.vcov_beta if self.approach is None else self.approach.vcov
        error = np.sqrt(np.maximum(np.einsum("ia,ab,ib->i", rows, vcov, rows), 0.0))
        if self.approach is None:
            df = np.full(len(rows), np.inf)
        else:
            df = np.asarray(self.approach.row_df(rows))
        return np.asarray(error * critical_values(df, conf_level))

    @property
    def band_words(self) -> str:
        """How the bands were made, for captions."""
        if self.approach is None or self.approach.method == "none":
            return "normal"
        return f"t, {DF_NAMES[self.approach.method]} degrees of freedom"

    def block_number(self, group: str | None) -> int:
        """Position of a grouping factor; the one with the fewest levels if not named."""
        names = [block.group for block in self.design.blocks]
        if not names:
            raise InferenceError(
                "This picture needs random effects.",
                "a model without random terms",
                "add a term such as (1 | school)",
            )
        if group is None:
            return len(names) - 1
        if group not in names:
            raise InferenceError(
                f"The grouping factor must be one of {', '.join(names)}.",
                f"group={group!r}",
                f"write group={names[-1]!r}",
            )
        return names.index(group)

    def above(self, number: int) -> tuple[int, ...]:
        """Blocks whose effect every row of one cluster shares: itself and what it is nested in."""
        own = self.design.blocks[number]
        return tuple(
            t
            for t, other in enumerate(self.design.blocks)
            if t == number or (other.n_levels <= own.n_levels and is_nested(own, other))
        )


def one_of(name: str, allowed: Sequence[str], what: str) -> str:
    """Return ``name`` if allowed, else raise an error that lists what is."""
    if name in allowed:
        return name
    raise InferenceError(
        f"The {what} must be one of: {', '.join(allowed) or 'none in this model'}.",
        f"{what}={name!r}",
        f"write {what}={allowed[0]!r}" if allowed else "choose another picture",
    )


def cluster_means(block: RandomBlock, columns: Array) -> Array:
    """(J, k) means of (n, k) columns by level of a factor."""
    counts = np.bincount(block.codes, minlength=block.n_levels).astype(np.float64)
    sums = [
        np.bincount(block.codes, weights=columns[:, j], minlength=block.n_levels)
        for j in range(columns.shape[1])
    ]
    if not sums:
        return np.zeros((block.n_levels, 0))
    return np.asarray(np.column_stack(sums) / counts[:, None])


def cluster_ranges(block: RandomBlock, values: Array) -> tuple[Array, Array]:
    """Smallest and largest value (J,) of (n,) values by level of a factor."""
    low = np.full(block.n_levels, np.inf)
    high = np.full(block.n_levels, -np.inf)
    np.minimum.at(low, block.codes, values)
    np.maximum.at(high, block.codes, values)
    return low, high
