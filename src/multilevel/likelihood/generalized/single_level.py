"""Models without random effects: exact likelihood, gradient and Hessian in all parts at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.objective import ErrorEstimate
from multilevel.likelihood.generalized.problem import GeneralizedProblem

Array = NDArray[np.float64]


BLOCK = 8_192  # rows whose weighted columns stay in cache


def _weighted_products(left: Array, weights: Array, right: Array) -> Array:
    """``left' diag(weights) right`` (p, q), a block of rows at a time."""
    out = np.zeros((left.shape[1], right.shape[1]))
    for a in range(0, len(weights), BLOCK):
        rows = slice(a, a + BLOCK)
        out += left[rows].T @ (right[rows] * weights[rows, None])
    return out


class SingleLevel:
    """``-2 log L`` of independent rows (``GeneralizedObjective``; nothing is approximated)."""

    method = "exact"

    def __init__(self, problem: GeneralizedProblem) -> None:
        if problem.blocks:
            raise LikelihoodError(
                "The single-level objective is for models without random effects.",
                f"{len(problem.blocks)} grouping factors",
                "build the objective with make_objective",
            )
        self.problem = problem
        self.points: tuple[int, ...] = ()
        self.plan = "no random effects: rows are independent, the likelihood is exact"
        self.n_evaluations = 0
        everything = tuple(range(problem.n_parts))
        self.rows = problem.rows_of(problem.response, None, everything)
        self._first = np.zeros((problem.n_parts, problem.n))
        self._second = np.zeros((problem.n_parts, problem.n_parts, problem.n))

    def value(self, psi: Array) -> float:
        """``-2 log L`` at ``psi`` (p,).

        Raises
        ------
        LikelihoodError : a log-likelihood that is not finite.
        """
        self.n_evaluations += 1
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            eta = self.problem.fixed_predictors(np.asarray(psi, dtype=float))
            value, self._first, self._second = self.rows.newton(eta)
            total = float(value.sum())
        if not np.isfinite(total):
            row = int(np.argmin(np.where(np.isnan(value), -np.inf, value)))
            raise LikelihoodError(
                "Every row needs a finite log density.",
                f"{value[row]} in row {row + 1}",
                "take a shorter step",
            )
        return -2.0 * total

    def gradient(self) -> Array:
        """``d criterion / d psi`` (p,) at the point last set."""
        parts = [part.X.T @ self._first[d] for d, part in enumerate(self.problem.fixed)]
        return -2.0 * np.concatenate(parts)

    def hessian(self) -> Array:
        """``d2 criterion / d psi2`` (p, p) at the point last set, exact."""
        p, slices = self.problem.n_fixed, self.problem.fixed_slices
        out = np.zeros((p, p))
        for d, left in enumerate(self.problem.fixed):
            for e, right in enumerate(self.problem.fixed[: d + 1]):
                piece = -2.0 * _weighted_products(left.X, self._second[d, e], right.X)
                out[slices[d], slices[e]] = piece
                out[slices[e], slices[d]] = piece.T
        return out

    def row_scores(self) -> Array:
        """``d l_i / d psi`` (n, p) at the point last set."""
        fixed = self.problem.fixed
        return np.concatenate(
            [part.X * self._first[d][:, None] for d, part in enumerate(fixed)], axis=1
        )

    def cluster_scores(self) -> None:
        """None: there are no clusters; ``row_scores`` has the scores of the rows."""

    def modes(self) -> list[Array]:
        """No random effects: an empty list."""
        return []

    def mode_covariance(self, block: int, levels: Sequence[int] | None = None) -> Array:
        """Not defined without random effects.

        Raises
        ------
        LikelihoodError : always.
        """
        raise LikelihoodError(
            "Conditional covariances are those of random effects.",
            f"block {block}, levels {levels}, of a model without random effects",
            "add a random term to the model",
        )

    def set_modes(self, modes: Sequence[Array]) -> None:
        """Nothing to start from; accepts the empty list that ``modes`` gives.

        Raises
        ------
        LikelihoodError : modes of random effects that the model does not have.
        """
        if len(modes):
            raise LikelihoodError(
                "A model without random effects has no modes.",
                f"{len(modes)} arrays",
                "pass what modes() returned",
            )

    def error_estimate(self, rng: np.random.Generator, draws: int) -> ErrorEstimate:
        """Zero: the likelihood is exact, so nothing is drawn.

        Raises
        ------
        LikelihoodError : arguments that no objective could use.
        """
        if not isinstance(rng, np.random.Generator) or draws < 0:
            raise LikelihoodError(
                "An error estimate takes a NumPy random generator and a number of draws.",
                f"{type(rng).__name__}, {draws}",
                "pass numpy.random.default_rng(seed) and a few hundred",
            )
        return ErrorEstimate(0.0, 0.0, "none", "The likelihood is exact: no random effects.")
