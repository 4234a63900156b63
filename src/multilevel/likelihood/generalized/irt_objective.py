"""Marginal likelihood of item response models with slopes, by matrix products.

``-2 log L = -2 sum_n log int prod_i P_i(y_ni | theta) phi(theta - x_n' gamma) d theta``.

The integral is a sum over equally spaced points of the person axis (the trapezoidal rule, which
converges geometrically for smooth integrands that vanish at both ends: Goodwin 1949; Trefethen &
Weideman 2014). The points are the same for all persons, also where person predictors shift the
distribution, so that log-likelihoods of N patterns at K points are one product of (N, T) by
(T, K). Gauss-Hermite points fixed for all persons would be sparser in the middle, where posterior
distributions are narrow, for the same number (61 points: spacing 0.4 against 0.2).

Gradient and Hessian by the identities of Louis (1982): ``grad = sum E(s)``,
``Hessian = sum E(H) + Cov(s)`` under the posterior of theta, s and H the derivatives given theta.
For partial credit the score is linear in the responses given theta, so that ``Cov(s)`` is a few
products more (Bock & Aitkin 1981 give the gradient).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.irt_categories import CategoryTables, category_tables
from multilevel.likelihood.generalized.irt_problem import ItemProblem

Array = NDArray[np.float64]
#: Patterns handled at once, so that their posteriors stay in the cache.
CHUNK = 4096
#: Distance in standard deviations between the last points and the mean of any person.
REACH = 6.5


@dataclass(frozen=True)
class Posterior:
    """Posterior of the person effect by pattern (with groups by person), (N,) each.

    Attributes
    ----------
    mean, std_dev : of theta.
    own_std_dev : of theta without the effect of the group.
    """

    mean: Array
    std_dev: Array
    own_std_dev: Array


class ItemObjective:
    """``-2 log L`` of one problem on one grid of points, as a function of psi.

    Attributes
    ----------
    problem : the frozen arrays.
    theta : (K,) points of the person axis.
    n_evaluations : how often ``value`` has run.
    """

    def __init__(self, problem: ItemProblem, points: int = 61, shift: float = 0.0) -> None:
        """``shift`` is the largest distance of a person's mean from zero that is reached."""
        self.problem = problem
        half = REACH + shift
        self.theta: Array = np.linspace(-half, half, points)
        self._log_width = float(np.log(2.0 * half / (points - 1)) - 0.5 * np.log(2.0 * np.pi))
        self.n_evaluations = 0
        self._psi: Array = np.zeros(0)
        self._groups = _by_categories(problem.n_categories)

    # -- the three calls -------------------------------------------------------------------------

    def value(self, psi: Array) -> float:
        """``-2 log L`` at psi (P,).

        Raises
        ------
        LikelihoodError : where it does not exist (thresholds out of order, overflow).
        """
        self.n_evaluations += 1
        self._psi = np.array(psi, dtype=np.float64)
        total = float(self.problem.counts @ self.log_likelihoods())
        if not np.isfinite(total):
            raise LikelihoodError(
                "The likelihood must be finite.", "an overflow", "take a shorter step"
            )
        return -2.0 * total

    def log_likelihoods(self) -> Array:
        """(N,) log-likelihood of each pattern at the parameters last set."""
        tables = self._tables(derivatives=False)
        return np.concatenate([total for _, _, total in self._chunks(tables)])

    def gradient(self) -> Array:
        """``d criterion / d psi`` (P,), exact for these points."""
        return self.derivatives(curvature=False)[0]

    def derivatives(self, *, curvature: bool = True) -> tuple[Array, Array]:
        """Gradient (P,) and Hessian (P, P) of the criterion at the parameters last set."""
        problem, K = self.problem, len(self.theta)
        tables = self._tables(derivatives=True)
        sums = Sums(problem, K)
        for rows, weights, _ in self._chunks(tables):
            c = problem.counts[rows]
            counted = weights * c[:, None]
            sums.add(problem, rows, counted)
            mean = weights @ self.theta
            sums.gamma += problem.x[rows].T @ (c * (mean - self._means(rows)))
            if curvature:
                self._add_covariance(sums, tables, rows, weights, mean)
        expected, complete = self._expected(sums, tables)
        E, A, B = self._aggregator(), problem.slopes, problem.easiness
        g = np.concatenate(
            [A.T @ (E @ (expected @ self.theta)), B.T @ expected.sum(axis=1), sums.gamma]
        )
        if not curvature:
            return -2.0 * g, np.zeros((len(g), len(g)))
        parts = [complete[a] + sums.products[a] for a in range(3)]
        H = np.zeros((len(g), len(g)))
        a, d, _ = problem.slices
        H[a, a] = A.T @ E @ parts[2] @ E.T @ A
        H[a, d] = A.T @ E @ parts[1] @ B
        H[d, a] = H[a, d].T
        H[d, d] = B.T @ parts[0] @ B
        H += sums.outer
        return -2.0 * g, -(H + H.T)

    def outer_product(self) -> tuple[Array, Array]:
        """Gradient (P,), and ``2 sum E(s) E(s)'`` (P, P) in place of the Hessian.

        Equal to it in expectation (Berndt, Hall, Hall & Hausman 1974), and far cheaper where
        ``Cov(s)`` has to be summed point by point: good steps on the way, no proof at the end.
        """
        problem, theta = self.problem, self.theta
        tables = self._tables(derivatives=True)
        E, A, B = self._aggregator(), problem.slopes, problem.easiness
        P = problem.n_parameters
        g, H = np.zeros(P), np.zeros((P, P))
        for rows, weights, _ in self._chunks(tables):
            plain = self._average(tables, rows, weights)
            moved = self._average(tables, rows, weights * theta)
            x = problem.x[rows] * (weights @ theta - self._means(rows))[:, None]
            scores = np.concatenate([moved @ E.T @ A, plain @ B, x], axis=1)
            counted = scores * problem.counts[rows][:, None]
            g += counted.sum(axis=0)
            H += counted.T @ scores
        return -2.0 * g, 2.0 * H

    def _average(self, tables: list[CategoryTables], rows: slice, weights: Array) -> Array:
        """Scores of the predictors (n, T) summed over the points with ``weights`` (n, K)."""
        problem = self.problem
        steps = problem.steps[rows]
        out = np.zeros(steps.shape)
        for (items, columns), table in zip(self._groups, tables, strict=True):
            if table.first is None:
                continue
            taken = steps[:, columns]
            seen = 1.0 if problem.observed is None else problem.observed[rows][:, items]
            none = seen - taken.sum(axis=2)
            for c in range(columns.shape[1] + 1):
                chosen = none if c == 0 else taken[:, :, c - 1]
                for s in range(columns.shape[1]):
                    slope = table.first[:, c, s]
                    if slope.any():
                        out[:, columns[:, s]] += chosen * (weights @ slope.T)
        return out

    # -- persons ---------------------------------------------------------------------------------

    def posterior(self) -> Posterior:
        """Posterior mean (EAP) and standard deviation of the person effect by pattern."""
        means, spreads = [], []
        for _, weights, _ in self._chunks(self._tables(derivatives=False)):
            mean = weights @ self.theta
            means.append(mean)
            spreads.append(np.sqrt(np.maximum(weights @ self.theta**2 - mean**2, 0.0)))
        spread = np.concatenate(spreads)
        return Posterior(np.concatenate(means), spread, spread)

    # -- inside ----------------------------------------------------------------------------------

    def _means(self, rows: slice) -> Array:
        return np.asarray(self.problem.x[rows] @ self._psi[self.problem.slices[2]])

    def _aggregator(self) -> Array:
        """(I, T) sums over the steps of an item."""
        return np.asarray(
            np.arange(self.problem.n_items)[:, None] == self.problem.item_of[None], np.float64
        )

    def _tables(self, *, derivatives: bool) -> list[CategoryTables]:
        """Tables of the items, one for each number of categories."""
        problem = self.problem
        a, d, _ = problem.slices
        slopes = (problem.slopes @ self._psi[a])[problem.item_of]
        t = np.multiply.outer(slopes, self.theta) + (problem.easiness @ self._psi[d])[:, None]
        K = len(self.theta)
        return [
            category_tables(
                t[columns.ravel()].reshape(*columns.shape, K), problem.kind, problem.link,
                derivatives=derivatives,
            )
            for _, columns in self._groups
        ]  # fmt: skip

    def _chunks(self, tables: list[CategoryTables]) -> Iterator[tuple[slice, Array, Array]]:
        """Rows, posterior weights (n, K) and log-likelihoods (n,), a chunk at a time."""
        problem, K = self.problem, len(self.theta)
        contrast = np.empty((problem.n_steps, K))
        base = np.empty((problem.n_items, K))
        for (items, columns), table in zip(self._groups, tables, strict=True):
            base[items] = table.log_p[:, 0]
            contrast[columns] = table.log_p[:, 1:] - table.log_p[:, :1]
        fixed = self._log_width - 0.5 * self.theta**2
        if problem.observed is None:
            fixed = fixed + base.sum(axis=0)
        for start in range(0, len(problem.counts), CHUNK):
            rows = slice(start, start + CHUNK)
            log_terms = problem.steps[rows] @ contrast
            log_terms += fixed
            if problem.observed is not None:
                log_terms += problem.observed[rows] @ base
            if problem.x.shape[1]:
                mean = self._means(rows)[:, None]
                log_terms += mean * self.theta - 0.5 * mean**2
            top = log_terms.max(axis=1, keepdims=True)
            log_terms -= top
            np.exp(log_terms, out=log_terms)
            total = log_terms.sum(axis=1, keepdims=True)
            log_terms /= total
            yield rows, log_terms, (np.log(total) + top)[:, 0]

    def _expected(
        self, sums: Sums, tables: list[CategoryTables]
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        """Expected scores (T, K) of the predictors, and complete-data Hessians (T, T) summed over
        the points with weights 1, theta, theta^2."""
        problem, K = self.problem, len(self.theta)
        expected = np.zeros((problem.n_steps, K))
        complete = tuple(np.zeros((problem.n_steps, problem.n_steps)) for _ in range(3))
        for (items, columns), table in zip(self._groups, tables, strict=True):
            taken = sums.taken[columns]
            none = sums.seen[items] - taken.sum(axis=1)
            frequency = np.concatenate([none[:, None], taken], axis=1)
            if table.first is None or table.second is None:
                continue
            expected[columns] = np.einsum("mck,mcsk->msk", frequency, table.first)
            hessian = np.einsum("mck,mcslk->mslk", frequency, table.second)
            for power in range(3):
                block = hessian @ self.theta**power
                complete[power][columns[:, :, None], columns[:, None, :]] = block
        return expected, (complete[0], complete[1], complete[2])

    def _add_covariance(
        self, sums: Sums, tables: list[CategoryTables], rows: slice, weights: Array, mean: Array
    ) -> None:
        """Add the sums that ``Cov(s)`` is made from, for one chunk of patterns."""
        problem = self.problem
        counts = problem.counts[rows]
        if problem.kind == "partial_credit":
            scores = self._linear_scores(sums, tables, rows, weights)
        else:
            scores = self._any_scores(sums, tables, rows, weights)
        E, A, B = self._aggregator(), problem.slopes, problem.easiness
        x = problem.x[rows]
        average = np.concatenate([scores[1] @ E.T @ A, scores[0] @ B], axis=1)
        with_theta = np.concatenate([scores[2] @ E.T @ A, scores[1] @ B], axis=1)
        q = average.shape[1]
        sums.outer[:q, :q] -= (average * counts[:, None]).T @ average
        crossed = ((with_theta - mean[:, None] * average) * counts[:, None]).T @ x
        sums.outer[:q, q:] += crossed
        sums.outer[q:, :q] += crossed.T
        variance = weights @ self.theta**2 - mean**2
        sums.outer[q:, q:] += (x * (counts * (variance - 1.0))[:, None]).T @ x

    def _linear_scores(
        self, sums: Sums, tables: list[CategoryTables], rows: slice, weights: Array
    ) -> list[Array]:
        """``E(theta^a g)`` (n, T) for a = 0, 1, 2 where ``g = z - P(Y >= s)``; adds ``E(g g')``."""
        problem, theta = self.problem, self.theta
        upper = np.empty((problem.n_steps, len(theta)))
        z = np.empty_like(problem.steps[rows])
        for (_, columns), table in zip(self._groups, tables, strict=True):
            p = table.probabilities
            upper[columns] = np.cumsum(p[:, ::-1], axis=1)[:, ::-1][:, 1:]
            z[:, columns] = np.cumsum(problem.steps[rows][:, columns][..., ::-1], axis=2)[..., ::-1]
        counts = problem.counts[rows]
        counted = weights * counts[:, None]
        found = []
        for a in range(3):
            moved = theta**a
            u = weights @ (upper * moved).T
            if problem.observed is not None:
                u *= problem.observed[rows][:, problem.item_of]
            moment = weights @ moved
            mixed = z.T @ (u * counts[:, None])
            sums.products[a] += (z * (counts * moment)[:, None]).T @ z - mixed - mixed.T
            found.append(moment[:, None] * z - u)
        if problem.observed is None:
            mass = counted.sum(axis=0)
            for a in range(3):
                sums.products[a] += (upper * (mass * theta**a)) @ upper.T
            return found
        # with holes the sums run over the persons who answered both items
        seen = problem.observed[rows]
        own = problem.item_of
        for k, point in enumerate(theta):
            together = (seen * counted[:, k : k + 1]).T @ seen
            outer = together[np.ix_(own, own)] * np.outer(upper[:, k], upper[:, k])
            for a in range(3):
                sums.products[a] += point**a * outer
        return found

    def _any_scores(
        self, sums: Sums, tables: list[CategoryTables], rows: slice, weights: Array
    ) -> list[Array]:
        """As ``_linear_scores`` for any score, point by point."""
        problem, T = self.problem, self.problem.n_steps
        steps, counts = problem.steps[rows], problem.counts[rows]
        found = [np.zeros((len(steps), T)) for _ in range(3)]
        for k, point in enumerate(self.theta):
            if not weights[:, k].max() > 1e-14:
                continue
            change, base = np.zeros((T, T)), np.zeros((problem.n_items, T))
            for (items, columns), table in zip(self._groups, tables, strict=True):
                if table.first is None:
                    continue
                first = table.first[..., k]
                base[items[:, None], columns] = first[:, 0]
                change[columns[:, :, None], columns[:, None, :]] = first[:, 1:] - first[:, :1]
            seen = base.sum(axis=0) if problem.observed is None else problem.observed[rows] @ base
            g = steps @ change + seen
            w = weights[:, k]
            product = (g * (w * counts)[:, None]).T @ g
            for a in range(3):
                sums.products[a] += point**a * product
                found[a] += (w * point**a)[:, None] * g
        return found


class Sums:
    """What one pass over the patterns adds up."""

    def __init__(self, problem: ItemProblem, K: int) -> None:
        T, P = problem.n_steps, problem.n_parameters
        self.taken = np.zeros((T, K))
        self.seen = np.zeros((problem.n_items, K))
        self.gamma = np.zeros(problem.x.shape[1])
        self.products = [np.zeros((T, T)) for _ in range(3)]
        self.outer = np.zeros((P, P))

    def add(self, problem: ItemProblem, rows: slice, counted: Array) -> None:
        """Expected numbers of responses by category and point."""
        self.taken += problem.steps[rows].T @ counted
        if problem.observed is None:
            self.seen += counted.sum(axis=0)
        else:
            self.seen += problem.observed[rows].T @ counted


def _by_categories(
    n_categories: tuple[int, ...],
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Items (m,) of each number of categories, and their step columns (m, C - 1)."""
    numbers = np.asarray(n_categories)
    ends = np.cumsum(numbers - 1)
    found = []
    for C in np.unique(numbers):
        items = np.flatnonzero(numbers == C)
        columns = (ends[items] - (C - 1))[:, None] + np.arange(C - 1)
        found.append((items, columns))
    return found
