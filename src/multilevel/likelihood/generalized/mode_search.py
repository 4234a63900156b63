"""The joint conditional mode of all random effects, by Newton's method.

Each step solves ``H d = Z~'l' - u``. A factor of ``H`` is kept for several steps while that is
cheaper than a new one: with a factor that is off by the last move, errors shrink by about that
move per step (observed after the first such step), with a new one they are squared. The factor is
new at the mode returned.

Where ``H`` is not positive definite (densities that are not log-concave), the step uses the
positive part of every row's ``W``, for which ``H >= I``; at the mode itself ``H`` must be positive
definite. Steps are halved until ``h`` does not fall.

Sources: Pinheiro & Bates 1995 (Newton and step-halving); simplified Newton steps: Deuflhard,
*Newton Methods for Nonlinear Problems* (2004), ch. 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.row_kernels import add_predictor, add_transposed
from multilevel.likelihood.generalized.row import RowLikelihood
from multilevel.likelihood.generalized.storage import Storage

Array = NDArray[np.float64]
Index = NDArray[np.int32]

TOLERANCE = 1e-10  # length of the last step in the metric of H
STALLED = 1e-6  # length below which a step by a new factor that does not shrink is rounding
MAX_PASSES = 200
MAX_HALVINGS = 40
WORTH_TRYING = 4.0  # cost of a factor over a pass from which the old one is tried first


@dataclass(frozen=True)
class ModePoint:
    """All that is known at one ``u``.

    ``u`` (N,); ``eta`` (D, n); ``h`` joint log density without constants of ``u``; ``first``
    (R, n) ``dl/deta_r``; ``W`` (R, R, n); ``score`` (N,) ``dh/du``.
    """

    u: Array
    eta: Array
    h: float
    first: Array
    W: Array
    score: Array


class PriorPrecision(Protocol):
    """The precision of ``u`` where it is not the identity (levels that are correlated)."""

    def apply(self, c: Array) -> Array:
        """The precision times (N,) or (N, K)."""
        ...


class ModeSearch:
    """Finds modes for one design.

    Parameters
    ----------
    rows : the row likelihood, rows sorted as in ``index``.
    index : (n, Q) unknown of each column of each row.
    storage : of ``H``; holds the factor at the mode afterwards.
    ratio : cost of one factorisation over that of one pass over the rows.
    prior : precision of ``u``; None for the identity.
    """

    def __init__(
        self,
        rows: RowLikelihood,
        index: Index,
        storage: Storage,
        ratio: float,
        prior: PriorPrecision | None = None,
    ) -> None:
        self.rows, self.index, self.storage, self.ratio = rows, index, storage, ratio
        self.prior = prior
        self.n_factorisations = 0
        self.n_passes = 0
        self._random = list(rows.random)
        self._leads = self._random == list(range(len(self._random)))

    def find(self, fixed: Array, Z: Array, start: Array) -> ModePoint:
        """The mode near ``start`` (N,); ``fixed`` (D, n) predictors, ``Z`` (R, n, Q) scaled.

        Raises ``LikelihoodError`` when there is none or the density is zero everywhere tried.
        """
        point = self.point(fixed, Z, start)
        if not np.isfinite(point.h):
            point = self.point(fixed, Z, np.zeros_like(start))
        if not np.isfinite(point.h):
            raise LikelihoodError(
                "The likelihood must be positive somewhere near the fixed predictions.",
                "a log density that is not finite at random effects of zero",
                "start from smaller coefficients, or rescale large predictors",
            )
        is_exact, is_new = False, False
        if not (self.storage.is_set and self.ratio > WORTH_TRYING):
            is_exact, is_new = self._factorise(Z, point), True
        before, newest, rate = np.inf, np.inf, 0.1
        for _ in range(MAX_PASSES):
            step = self.storage.solve(point.score)
            length = math.sqrt(max(float(point.score @ step), 0.0))
            if is_new:
                rate = min(0.5, length)
            else:
                rate = max(length / before, 1e-8) if before < np.inf else rate
            is_rounding = is_new and STALLED > length > 0.5 * newest
            if is_new:
                newest = length
            if length <= TOLERANCE or is_rounding:
                if is_new and is_exact:
                    return point
                if self._factorise(Z, point):
                    return point
                raise _not_a_maximum(length)
            if not is_new and not self._old_factor_pays(length, rate):
                is_exact, is_new = self._factorise(Z, point), True
                before = np.inf
                continue
            moved = self._move(fixed, Z, point, step, length)
            if moved is None:
                if is_new:
                    raise _stuck(length)
                is_exact, is_new, before = self._factorise(Z, point), True, np.inf
                continue
            # without the exact H there is no square convergence to build on
            point, before, is_new = moved, length, False
            if not is_exact and self.ratio <= WORTH_TRYING:
                is_exact, is_new, before = self._factorise(Z, point), True, np.inf
        raise _stuck(length)

    def point(self, fixed: Array, Z: Array, u: Array) -> ModePoint:
        """Densities and derivatives at ``u``."""
        self.n_passes += 1
        eta = self.predictors(fixed, Z, u)
        value, first, second = self.rows.newton(eta)
        first = np.ascontiguousarray(first)
        score = -self.pulled(u)
        h = float(value.sum()) + 0.5 * float(u @ score)
        if np.isfinite(h):
            add_transposed(Z, self.index, first, score)
        return ModePoint(u, eta, h, first, np.ascontiguousarray(-second), score)

    def pulled(self, u: Array) -> Array:
        """The prior precision times u (N,) or (N, K)."""
        return u if self.prior is None else self.prior.apply(u)

    def predictors(self, fixed: Array, Z: Array, u: Array) -> Array:
        """``eta`` (D, n)."""
        eta = fixed.copy()
        if self._leads:
            add_predictor(Z, self.index, u, eta[: len(self._random)])
        else:
            random = np.ascontiguousarray(eta[self._random])
            add_predictor(Z, self.index, u, random)
            eta[self._random] = random
        return eta

    def _old_factor_pays(self, length: float, rate: float) -> bool:
        """Whether the steps left with the old factor cost less than a new one."""
        if rate >= 0.9:
            return False
        left = np.log(TOLERANCE / length) / np.log(rate)
        return bool(left <= 1.0 + self.ratio)

    def _factorise(self, Z: Array, point: ModePoint) -> bool:
        """Factorise ``H`` at the point; False if its positive part had to stand in."""
        self.n_factorisations += 1
        if np.isfinite(point.W).all() and self.storage.factorise(Z, point.W):
            return True
        if not self.storage.factorise(Z, positive_part(point.W)):
            raise LikelihoodError(
                "The matrix of the random effects must be finite.",
                "second derivatives of the log density that overflow",
                "start from smaller coefficients and variances, or rescale large predictors",
            )
        return False

    def _move(
        self, fixed: Array, Z: Array, point: ModePoint, step: Array, length: float
    ) -> ModePoint | None:
        """The next point, the step halved until ``h`` does not fall; None if it always falls."""
        slack = 1e-12 * (1.0 + abs(point.h))
        size = 1.0
        for _ in range(MAX_HALVINGS):
            trial = self.point(fixed, Z, point.u + size * step)
            if np.isfinite(trial.h) and trial.h >= point.h - slack:
                return trial
            if size * length < STALLED:
                return None
            size *= 0.5
        return None


def positive_part(W: Array) -> Array:
    """Rows' W (R, R, n) with negative eigenvalues and infinities set to zero."""
    finite = np.where(np.isfinite(W), W, 0.0)
    if W.shape[0] == 1:
        return np.maximum(finite, 0.0)
    values, vectors = np.linalg.eigh(finite.transpose(2, 0, 1))
    kept = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1)
    return np.ascontiguousarray(kept.transpose(1, 2, 0))


def _not_a_maximum(length: float) -> LikelihoodError:
    return LikelihoodError(
        "The random effects must have a conditional mode.",
        f"a stationary point that is no maximum (last step {length:.2g})",
        "start from other parameters; a variance may be far too large",
    )


def _stuck(length: float) -> LikelihoodError:
    return LikelihoodError(
        "The search for the conditional modes must converge.",
        f"steps that do not shrink or raise the density (last step {length:.2g})",
        "start from smaller coefficients and variances, or rescale large predictors",
    )
