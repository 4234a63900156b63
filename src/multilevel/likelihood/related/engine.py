"""What an engine of general random effects offers beyond the Gaussian contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.gaussian.engine import GaussianEngine

Array = NDArray[np.float64]


@runtime_checkable
class RelatedEngine(GaussianEngine, Protocol):
    """A Gaussian engine whose levels share rows or are correlated.

    Attributes
    ----------
    couples_levels : True: ``Z'V^-1 Z`` is not block-diagonal over the levels of a factor.
    """

    couples_levels: bool

    @property
    def independent_sizes(self) -> tuple[tuple[int, int], ...]:
        """``(r_t, q_t)`` by block: independent levels, columns."""
        ...

    def solution(self, block: int) -> Array:
        """``(A (x) Psi) Z_t'V^-1 W`` by level, in b: (J_t, q_t, m)."""
        ...

    def posterior_blocks(self, block: int) -> Array:
        """``Var(b_g | y) / sigma2`` by level: (J_t, q_t, q_t)."""
        ...

    def posterior_product(self, loadings: Sequence[Array]) -> list[Array]:
        """``Var(b | y) X / sigma2`` for X by block in b, (J_t, q_t, k); the same shapes."""
        ...
