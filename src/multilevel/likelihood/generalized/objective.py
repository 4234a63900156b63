"""What every approximation of a generalized likelihood offers to the optimiser and to inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.problem import GeneralizedProblem

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorEstimate:
    """How far an approximate criterion is from the exact one.

    Attributes
    ----------
    criterion : estimated error of the criterion (approximation minus truth), in -2 log-likelihood.
    std_error : Monte Carlo standard error of that estimate; 0 if it is deterministic.
    method : ``"more points"``, ``"second-order Laplace"``, ``"importance sampling"``, ``"none"``.
    sentence : the same in words.
    """

    criterion: float
    std_error: float
    method: str
    sentence: str


#: Errors of -2 log-likelihood below this are rounding.
ROUNDING = 1e-8


def off_words(error: float) -> str:
    """``"0.004 too high"``; errors that are rounding are called right."""
    if abs(error) < ROUNDING:
        return f"right to {ROUNDING:.0e}"
    return f"{abs(error):.3g} too {'high' if error > 0 else 'low'}"


class GeneralizedObjective(Protocol):
    """``-2 log L`` of one problem by one approximation, as a function of ``psi``.

    Three small calls: ``value(psi)`` sets the parameters, finds the modes (from the last ones) and
    returns the criterion; ``gradient()`` and the rest read at the point last set. ``value`` raises
    ``LikelihoodError`` where the likelihood does not exist (overflow, no mode); the optimiser then
    takes a shorter step.

    Attributes
    ----------
    problem : the frozen arrays.
    method : ``"Laplace"`` or ``"adaptive quadrature"``.
    points : quadrature points per dimension and block (1 for Laplace).
    plan : the sentence why this engine handles the design.
    n_evaluations : how often ``value`` has run.
    """

    problem: GeneralizedProblem
    method: str
    points: tuple[int, ...]
    plan: str
    n_evaluations: int

    def value(self, psi: Array) -> float:
        """The criterion at ``psi`` (P,)."""
        ...

    def gradient(self) -> Array:
        """``d criterion / d psi`` (P,), exact for the approximation."""
        ...

    def cluster_scores(self) -> Array | None:
        """Scores ``d log L_j / d psi`` (J, P) of independent clusters (levels of the coarsest
        factor), or None where rows of different clusters share random effects."""
        ...

    def modes(self) -> list[Array]:
        """Conditional modes of ``u`` by block, (J_t, q_t) each."""
        ...

    def mode_covariance(self, block: int, levels: Sequence[int] | None = None) -> Array:
        """Conditional covariance of ``u`` given y: ``(H^-1)_gg`` (J', q_t, q_t) (Laplace), or the
        quadrature's posterior covariance."""
        ...

    def set_modes(self, modes: Sequence[Array]) -> None:
        """Start the next mode search from these (warm starts, bootstrap)."""
        ...

    def error_estimate(self, rng: np.random.Generator, draws: int) -> ErrorEstimate:
        """Estimated error of the criterion at the point last set; ``draws`` bounds the work of
        sampling methods."""
        ...
