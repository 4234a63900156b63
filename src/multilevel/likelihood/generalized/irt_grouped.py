"""Marginal likelihood of item response models with slopes whose persons lie in groups.

``L_g = int prod_{n in g} [ int prod_i P_i(y_ni | theta) phi(theta - m_n - tau u) d theta ]
phi(u) du``, ``m_n = x_n' gamma`` (multilevel item response model: Fox & Glas 2001; Kamata 2001
for equal slopes). Both integrals are sums over equally spaced points, as in ``irt_objective``: with
w the posterior weights of the person axis for u = 0,

``L_n(u) = L_n(0) exp(-m_n tau u) sum_k w_nk exp(tau u theta_k - tau^2 u^2 / 2)``,

one product of (N, K) by (K, Q). The gradient is the expected score under the posterior of u and
theta (Louis 1982); the Hessian is differenced from it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.irt_objective import (
    REACH,
    ItemObjective,
    Posterior,
    Sums,
)
from multilevel.likelihood.generalized.irt_problem import ItemProblem

Array = NDArray[np.float64]
#: Step of differences of the gradient, relative to the size of a parameter (at least 1).
STEP = 1e-5


class GroupedItemObjective(ItemObjective):
    """``-2 log L`` of a problem with groups of persons; ``psi = (alpha, delta, gamma, tau)``."""

    def __init__(self, problem: ItemProblem, points: int = 61, shift: float = 0.0) -> None:
        """``points`` for the person axis and for the group effect; ``shift`` as for persons alone,
        the group effects included.

        Raises
        ------
        LikelihoodError : a problem without groups.
        """
        super().__init__(problem, points, shift)
        groups = problem.groups
        if groups is None:
            raise LikelihoodError(
                "Groups of persons are needed.", "none", "use the objective of single persons"
            )
        #: (Q,) points of the standardised group effect and the logarithms of their weights.
        self.u: Array = np.linspace(-REACH, REACH, points)
        width = 2.0 * REACH / (points - 1)
        self._log_weight: Array = -0.5 * self.u**2 + np.log(width) - 0.5 * np.log(2.0 * np.pi)
        ones = np.ones(len(groups.of_person))
        shape = (groups.n_groups, len(problem.counts))
        #: (G, N) persons of each group by pattern.
        self._members = csr_array((ones, (groups.of_person, problem.pattern_of)), shape=shape)
        self._group_of = groups.of_person
        self._posterior_u: Array = np.zeros((groups.n_groups, points))

    @property
    def _tau(self) -> float:
        return float(self._psi[-1])

    def value(self, psi: Array) -> float:
        """``-2 log L`` at psi (P,).

        Raises
        ------
        LikelihoodError : where it does not exist (thresholds out of order, overflow).
        """
        self.n_evaluations += 1
        self._psi = np.array(psi, dtype=np.float64)
        tables = self._tables(derivatives=False)
        by_point = np.empty((len(self.problem.counts), len(self.u)))
        tilt = self._tilt()
        for rows, weights, total in self._chunks(tables):
            given = weights @ tilt
            if not np.all(given > 0.0):
                raise LikelihoodError(
                    "The person axis must reach the effects of all groups.",
                    f"a standard deviation of groups of {abs(self._tau):.3g}",
                    "take a shorter step",
                )
            moved = np.log(given) - np.outer(self._means(rows), self._tau * self.u)
            by_point[rows] = moved + total[:, None]
        joint = self._members @ by_point + self._log_weight
        top = joint.max(axis=1, keepdims=True)
        joint = np.exp(joint - top)
        sums = joint.sum(axis=1, keepdims=True)
        self._posterior_u = joint / sums
        total_log = float((np.log(sums) + top).sum())
        if not np.isfinite(total_log):
            raise LikelihoodError(
                "The likelihood must be finite.", "an overflow", "take a shorter step"
            )
        return -2.0 * total_log

    def gradient(self) -> Array:
        """``d criterion / d psi`` (P,), exact for these points."""
        problem, tau, u = self.problem, self._tau, self.u
        tables = self._tables(derivatives=True)
        sums, slope = Sums(problem, len(self.theta)), 0.0
        tilt = self._tilt()
        expected_counts = np.asarray(self._members.T @ self._posterior_u)
        for rows, weights, _ in self._chunks(tables):
            own = expected_counts[rows]
            ratio = own / (weights @ tilt)
            counted = weights * (ratio @ tilt.T)
            sums.add(problem, rows, counted)
            mean, moment = self._means(rows), own @ u
            residual = counted @ self.theta - problem.counts[rows] * mean - tau * moment
            sums.gamma += problem.x[rows].T @ residual
            mixed = ratio * ((weights * self.theta) @ tilt)
            slope += float((mixed @ u).sum() - moment @ mean - tau * (own @ u**2).sum())
        expected, _ = self._expected(sums, tables)
        E, A, B = self._aggregator(), problem.slopes, problem.easiness
        g = [A.T @ (E @ (expected @ self.theta)), B.T @ expected.sum(axis=1), sums.gamma, [slope]]
        return -2.0 * np.concatenate(g)

    def derivatives(self, *, curvature: bool = True) -> tuple[Array, Array]:
        """Gradient (P,) and Hessian (P, P), the latter by differences of the gradient."""
        g, at = self.gradient(), self._psi.copy()
        P = len(at)
        H = np.zeros((P, P))
        if not curvature:
            return g, H
        for k in range(P):
            step = STEP * max(1.0, abs(at[k]))
            moved = at.copy()
            moved[k] += step
            self.value(moved)
            H[k] = (self.gradient() - g) / step
        self.value(at)
        return g, 0.5 * (H + H.T)

    def outer_product(self) -> tuple[Array, Array]:
        """Gradient and Hessian: persons of a group have no scores of their own."""
        return self.derivatives()

    # -- persons and groups ----------------------------------------------------------------------

    def posterior(self) -> Posterior:
        """Posterior of theta by person, (n_persons,) each."""
        first, second = self._moments_given_u()
        own, u = self._posterior_u[self._group_of], self.u
        pattern = self.problem.pattern_of
        mean = np.einsum("nq,nq->n", own, first[pattern])
        total = np.einsum("nq,nq->n", own, second[pattern]) - mean**2
        # Var(theta - tau u): u is known within each term of the sum
        left = first[pattern] - self._tau * u
        centre = np.einsum("nq,nq->n", own, left)
        spread = (second - first**2)[pattern] + (left - centre[:, None]) ** 2
        variance = np.einsum("nq,nq->n", own, spread)
        return Posterior(mean, np.sqrt(np.maximum(total, 0.0)), np.sqrt(np.maximum(variance, 0.0)))

    def group_posterior(self) -> tuple[Array, Array]:
        """Posterior mean and standard deviation of ``tau u_g`` by group, (G,) each."""
        mean = self._posterior_u @ self.u
        variance = self._posterior_u @ self.u**2 - mean**2
        size = abs(self._tau)
        return self._tau * mean, np.asarray(size * np.sqrt(np.maximum(variance, 0.0)))

    # -- inside ----------------------------------------------------------------------------------

    def _moments_given_u(self) -> tuple[Array, Array]:
        """(N, Q) expectations of theta and theta^2 of each pattern given the group effect."""
        shape = (len(self.problem.counts), len(self.u))
        first, second, tilt = np.empty(shape), np.empty(shape), self._tilt()
        for rows, weights, _ in self._chunks(self._tables(derivatives=False)):
            total = weights @ tilt
            first[rows] = ((weights * self.theta) @ tilt) / total
            second[rows] = ((weights * self.theta**2) @ tilt) / total
        return first, second

    def _tilt(self) -> Array:
        """(K, Q) ``exp(tau u theta - tau^2 u^2 / 2)``."""
        shift = self._tau * self.u
        return np.asarray(np.exp(np.outer(self.theta, shift) - 0.5 * shift**2))
