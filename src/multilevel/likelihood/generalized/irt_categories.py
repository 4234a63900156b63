"""Category probabilities of items along the person axis, with two derivatives.

An item with categories 0..S has S predictors ``t_s(theta) = a theta + d_s``, s = 1..S.

* ``"partial_credit"``: ``P(Y = c)`` proportional to ``exp(t_1 + ... + t_c)`` (Masters 1982; with a
  slope of its own for each item Muraki 1992);
* ``"graded"``: ``P(Y >= c) = F(t_c)``, so that ``t_1 > t_2 > ...`` (Samejima 1969), F the
  logistic or the normal distribution.

Two categories make both the two-parameter model ``P(Y = 1) = F(t_1)`` (Birnbaum 1968).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_ndtr

from multilevel.errors import LikelihoodError

Array = NDArray[np.float64]
ItemKind = Literal["partial_credit", "graded"]
ItemLink = Literal["logit", "probit"]
_HALF_LOG_2PI = 0.5 * float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class CategoryTables:
    """Items of one number of categories at K points of the person axis; C = S + 1.

    Attributes
    ----------
    log_p : (m, C, K) log probabilities.
    first : (m, C, S, K) ``d log P_c / d t_s``; None unless asked for.
    second : (m, C, S, S, K) second derivatives; None unless asked for.
    """

    log_p: Array
    first: Array | None = None
    second: Array | None = None

    @property
    def probabilities(self) -> Array:
        """(m, C, K)."""
        return np.asarray(np.exp(self.log_p))


def category_tables(
    t: Array, kind: ItemKind, link: ItemLink = "logit", *, derivatives: bool = False
) -> CategoryTables:
    """Probabilities of m items at predictors t (m, S, K).

    Raises
    ------
    LikelihoodError : graded predictors out of order, where a probability is not positive.
    """
    if kind == "partial_credit":
        return _partial_credit(t, derivatives)
    return _graded(t, link, derivatives)


def _partial_credit(t: Array, derivatives: bool) -> CategoryTables:
    m, S, K = t.shape
    utility = np.concatenate([np.zeros((m, 1, K)), np.cumsum(t, axis=1)], axis=1)
    top = utility.max(axis=1, keepdims=True)
    log_p = utility - top - np.log(np.exp(utility - top).sum(axis=1, keepdims=True))
    if not derivatives:
        return CategoryTables(log_p)
    p = np.exp(log_p)
    # P(Y >= s), and Cov(1[Y >= s], 1[Y >= l]) = P(Y >= max) - P(Y >= s) P(Y >= l)
    upper = np.cumsum(p[:, ::-1], axis=1)[:, ::-1][:, 1:]
    passed = np.tril(np.ones((S + 1, S)), -1)[None, :, :, None]
    first = passed - upper[:, None]
    larger = np.maximum.outer(np.arange(S), np.arange(S))
    covariance = upper[:, larger] - upper[:, :, None] * upper[:, None]
    second = np.broadcast_to(-covariance[:, None], (m, S + 1, S, S, K))
    return CategoryTables(log_p, first, second)


def _log_cumulative(t: Array, link: ItemLink) -> tuple[Array, Array, Array, Array]:
    """``log F``, ``log(1 - F)``, ``log f`` and ``f'/f`` at t."""
    if link == "logit":
        low, high = log_expit(t), log_expit(-t)
        return low, high, low + high, -np.tanh(0.5 * t)
    return log_ndtr(t), log_ndtr(-t), -0.5 * t * t - _HALF_LOG_2PI, -t


def _graded(t: Array, link: ItemLink, derivatives: bool) -> CategoryTables:
    m, S, K = t.shape
    log_f, log_upper, log_density, ratio = _log_cumulative(t, link)
    log_p = np.empty((m, S + 1, K))
    log_p[:, 0], log_p[:, S] = log_upper[:, 0], log_f[:, -1]
    if S > 1:
        # log(F(a) - F(b)), a > b, in the tail where both are small
        a, b = t[:, :-1], t[:, 1:]
        if not np.all(a > b):
            raise LikelihoodError(
                "Thresholds of a graded item must be in order.",
                "a higher category that is easier than a lower one",
                "take a shorter step",
            )
        right = a + b > 0.0
        big = np.where(right, log_upper[:, 1:], log_f[:, :-1])
        small = np.where(right, log_upper[:, :-1], log_f[:, 1:])
        log_p[:, 1:S] = big + np.log(-np.expm1(small - big))
    if not np.all(np.isfinite(log_p)):
        raise LikelihoodError(
            "Every category needs a positive probability.", "a probability of zero",
            "take a shorter step",
        )  # fmt: skip
    if not derivatives:
        return CategoryTables(log_p)
    first = np.zeros((m, S + 1, S, K))
    second = np.zeros((m, S + 1, S, S, K))
    for s in range(S):
        # t_{s+1} is the lower edge of category s + 1 and the upper edge of category s
        for c, sign in ((s + 1, 1.0), (s, -1.0)):
            g = sign * np.exp(log_density[:, s] - log_p[:, c])
            first[:, c, s] = g
            second[:, c, s, s] = g * ratio[:, s]
    second -= first[:, :, :, None] * first[:, :, None]
    return CategoryTables(log_p, first, second)
