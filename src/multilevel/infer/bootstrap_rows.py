"""Bootstraps that draw rows by the levels of grouping factors.

``cluster``: whole clusters of the highest factor (Davison & Hinkley 1997, section 3.8).
``pigeonhole``: the levels of every crossed factor independently; a row is in a replicate as often
as the product of the counts of its levels (Owen 2007, Annals of Applied Statistics 1:386; more
than two factors: Owen & Eckles 2012, ibid. 6:895). No bootstrap of crossed factors is exact for
the variance of a mean (McCullagh 2000, Bernoulli 6:285); the pigeonhole's is a little too large.
Copies of a row share their residual across different copies of its levels, so variances estimated
from a pigeonhole replicate are not those of the model: it serves fixed effects only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design, RandomBlock, RowReport
from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

Codes = NDArray[np.int64]


def lies_in(fine: RandomBlock, coarse: RandomBlock) -> bool:
    """Whether every level of one factor lies in exactly one level of another (or is it)."""
    home = np.zeros(fine.n_levels, dtype=coarse.codes.dtype)
    home[fine.codes] = coarse.codes
    return bool(np.array_equal(home[fine.codes], coarse.codes))


def highest_factors(designs: Sequence[Design]) -> tuple[RandomBlock, ...]:
    """The factors that lie in no other factor, coarsest first, each once."""
    blocks = sorted((b for d in designs for b in d.blocks), key=lambda b: b.n_levels)
    out: list[RandomBlock] = []
    for block in blocks:
        if not any(lies_in(block, other) for other in out):
            out.append(block)
    return tuple(out)


@dataclass(frozen=True)
class RowSource:
    """Draws levels of the highest factors with replacement, the rows with them.

    Attributes
    ----------
    designs : of the same rows.
    drawn : codes (n,) and number of levels of each factor that is drawn.
    homes : per design and block, the drawn factors in which it lies.
    """

    designs: tuple[Design, ...]
    drawn: tuple[tuple[Codes, int], ...]
    homes: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def of(cls, designs: Sequence[Design], kind: str) -> RowSource:
        """For ``kind`` ``"cluster"`` (one highest factor) or ``"pigeonhole"`` (several).

        Raises
        ------
        InferenceError : no factor, factors that cross (cluster) or that do not (pigeonhole).
        """
        highest = highest_factors(designs)
        if not highest:
            raise InferenceError(f"A {kind} bootstrap needs clusters.", "none", "add (1 | group)")
        names = " and ".join(block.group for block in highest)
        if kind == "cluster" and len(highest) > 1:
            raise InferenceError(
                "A cluster bootstrap needs nested factors: crossed rows cannot be drawn by "
                "cluster.",
                f"{names} cross",
                'write kind="parametric" or kind="residual", or kind="pigeonhole" for fixed '
                "effects",
            )
        if kind == "pigeonhole" and len(highest) < 2:
            raise InferenceError(
                "A pigeonhole bootstrap needs crossed factors.",
                f"every factor lies in {names}",
                'write kind="cluster"',
            )
        homes = tuple(
            tuple(
                tuple(f for f, top in enumerate(highest) if lies_in(block, top))
                for block in design.blocks
            )
            for design in designs
        )
        drawn = tuple((top.codes.astype(np.int64), top.n_levels) for top in highest)
        return cls(tuple(designs), drawn, homes)

    def draw(self, rng: np.random.Generator) -> tuple[Design, ...]:
        """The designs of one drawn set of rows; a level drawn twice counts as two."""
        counts = [np.bincount(rng.integers(0, J, J), minlength=J)[codes] for codes, J in self.drawn]
        times = np.prod(counts, axis=0)
        rows = np.repeat(np.arange(len(times)), times)
        rest = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
        copies = []
        for count in counts:
            copies.append(rest % count[rows])
            rest = rest // count[rows]
        return tuple(
            self._take(design, homes, rows, copies)
            for design, homes in zip(self.designs, self.homes, strict=True)
        )

    def _take(
        self,
        design: Design,
        homes: tuple[tuple[int, ...], ...],
        rows: NDArray[np.intp],
        copies: list[Codes],
    ) -> Design:
        blocks = []
        for block, inside in zip(design.blocks, homes, strict=True):
            codes: Codes = block.codes[rows].astype(np.int64)
            n_levels = block.n_levels
            for f in inside:
                found, codes = np.unique(codes * self.drawn[f][1] + copies[f], return_inverse=True)
                n_levels = len(found)
            blocks.append(
                replace(
                    block,
                    codes=codes.astype(np.int32),
                    levels=np.arange(n_levels),
                    columns=np.asfortranarray(block.columns[rows]),
                )
            )
        return replace(
            design,
            y=design.y[rows],
            X=np.asfortranarray(design.X[rows]),
            blocks=tuple(blocks),
            offset=None if design.offset is None else design.offset[rows],
            weights=None if design.weights is None else design.weights[rows],
            rows=RowReport(design.rows.n_table, design.rows.kept[rows], {}),
        )
