"""The frozen problem of a generalized multilevel model: arrays only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.row import Response, RowLikelihood
from multilevel.model.covariance.structures import FactorMap

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FixedPart:
    """Fixed effects of one part: ``X`` (n, p_d) Fortran order and ``offset`` (n,) or None."""

    X: Array
    offset: Array | None = None


@dataclass(frozen=True)
class EffectBlock:
    """Random effects of one grouping factor.

    Attributes
    ----------
    codes : (n,) int32 level of each row, 0..J-1.
    n_levels : J.
    columns : (n, q) random-effect columns, Fortran order.
    parts : (q,) the part that each column belongs to.
    structure : the map theta -> Lambda over the q columns.
    """

    codes: NDArray[np.int32]
    n_levels: int
    columns: Array
    parts: tuple[int, ...]
    structure: FactorMap


@dataclass(frozen=True)
class GeneralizedProblem:
    """All arrays of one generalized multilevel model, rows in the order of the design.

    Attributes
    ----------
    response : the response.
    fixed : per part its fixed effects; D = len(fixed).
    blocks : per grouping factor its random effects, by decreasing number of levels; may be empty.
    rows_of : builds the row likelihood of any response, with weights given in the same order:
        ``rows_of(response, order, random)``; ``order`` (m,) are the rows wanted, in the order
        wanted (None: all), ``random`` the random parts.
    """

    response: Response
    fixed: tuple[FixedPart, ...]
    blocks: tuple[EffectBlock, ...]
    rows_of: Callable[[Response, NDArray[np.intp] | None, tuple[int, ...]], RowLikelihood]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.response.y)

    @property
    def n_parts(self) -> int:
        """D."""
        return len(self.fixed)

    @property
    def random_parts(self) -> tuple[int, ...]:
        """Parts that carry random effects, ascending."""
        return tuple(sorted({part for block in self.blocks for part in block.parts}))

    @property
    def fixed_slices(self) -> list[slice]:
        """Where each part's coefficients stand in ``psi``."""
        ends = np.cumsum([0, *(part.X.shape[1] for part in self.fixed)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    @property
    def theta_slices(self) -> list[slice]:
        """Where each block's covariance parameters stand in ``psi``."""
        sizes = [block.structure.n_parameters for block in self.blocks]
        ends = self.n_fixed + np.cumsum([0, *sizes])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    @property
    def n_fixed(self) -> int:
        """Coefficients of all parts together."""
        return sum(part.X.shape[1] for part in self.fixed)

    @property
    def n_parameters(self) -> int:
        """Length of ``psi``."""
        return self.n_fixed + sum(block.structure.n_parameters for block in self.blocks)

    def row_likelihood(self, order: NDArray[np.intp] | None = None) -> RowLikelihood:
        """The row likelihood of this response, rows in the given order, random parts as here."""
        return self.rows_of(self.response, order, self.random_parts)

    def fixed_predictors(self, psi: Array) -> Array:
        """``X_d beta_d + offset_d`` (D, n)."""
        out = np.empty((self.n_parts, self.n))
        for d, (part, s) in enumerate(zip(self.fixed, self.fixed_slices, strict=True)):
            out[d] = part.X @ psi[s]
            if part.offset is not None:
                out[d] += part.offset
        return out

    def factors(self, psi: Array) -> list[Array]:
        """``Lambda_t`` (q_t, q_t) per block."""
        pairs = zip(self.blocks, self.theta_slices, strict=True)
        return [block.structure.factor(psi[s]) for block, s in pairs]

    def factor_slopes(self, psi: Array) -> list[Array]:
        """``dLambda_t/dtheta`` (r_t, q_t, q_t) per block."""
        pairs = zip(self.blocks, self.theta_slices, strict=True)
        return [block.structure.slopes(psi[s]) for block, s in pairs]
