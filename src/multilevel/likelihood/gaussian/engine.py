"""The contract of every Gaussian engine.

An engine holds frozen cross-products and one mutable factorisation. Three small calls make an
objective: ``factorise(factors)`` sets the relative factors ``Lambda_t`` and eliminates all random
effects; ``T`` and ``logdet`` are then read. Everything else (scores, curvature, random effects,
conditional covariances, Kenward-Roger tensors) is built from the four products below, none of
which needs the rows of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@runtime_checkable
class GaussianEngine(Protocol):
    """What a Gaussian engine offers after ``factorise``. Block ``t`` has J_t levels, q_t columns.

    Attributes
    ----------
    name : short name, e.g. ``"nested"``.
    T : (m, m) ``W'V^-1 W``.
    logdet : ``log|I + Z Psi Z'|``.
    n_evaluations : how often ``factorise`` has run.
    exact : False where ``logdet`` and ``information_sum`` carry Monte Carlo noise.
    """

    name: str
    T: Array
    logdet: float
    n_evaluations: int
    exact: bool

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set ``Lambda_t`` (q_t, q_t) per block and eliminate the random effects."""
        ...

    def cross(self, block: int) -> Array:
        """``H_t = Z_t'V^-1 W`` by level: (J_t, q_t, m)."""
        ...

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z_t'V^-1 Z_t)_gg``: (q_t, q_t)."""
        ...

    def information_blocks(self, block: int) -> Array:
        """``(Z_t'V^-1 Z_t)_gg`` by level: (J_t, q_t, q_t)."""
        ...

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z'V^-1 Z C`` for ``C`` given by block as (J_t, q_t, k); the same shapes come back."""
        ...


@runtime_checkable
class SamplingEngine(GaussianEngine, Protocol):
    """An engine whose ``logdet`` is estimated with random probes.

    ``logdet_error`` : Monte Carlo standard error of ``logdet``.
    """

    logdet_error: float

    def with_probes(self, probes: int) -> SamplingEngine:
        """The same engine with another number of probes; factorise it before it is read."""
        ...
