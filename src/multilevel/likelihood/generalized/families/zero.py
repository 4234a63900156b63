r"""Zero-inflated and hurdle rows on top of a family's own rows.

With ``z`` the logit of the probability ``pi``, ``f`` the base density, ``v = log f(0)``:

* inflated: ``log(e^z + e^v) - log(1 + e^z)`` at zero, ``log f(y) - log(1 + e^z)`` else
  (Lambert 1992);
* hurdle: ``z - log(1 + e^z)`` at zero, ``log f+(y) - log(1 + e^z)`` else, ``f+`` the density
  without zeros (Mullahy 1986).

``log(e^z + e^v)`` has derivatives ``p`` in ``v`` and ``1 - p`` in ``z``, ``p = s(v - z)`` the
probability that an observed zero is a count; ``c = p (1 - p)``, ``c (1 - 2p)`` follow in
``v - z``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.families.base import JetRows
from multilevel.likelihood.generalized.families.catalogue import row_likelihood
from multilevel.likelihood.generalized.families.part_rows import PartRows
from multilevel.likelihood.generalized.families.pieces import Piece, Places
from multilevel.likelihood.generalized.row import ALL, Response, RowDerivatives
from multilevel.model.families.records import Family
from multilevel.model.families.zero import COUNTS, base_family

Array = NDArray[np.float64]


class ZeroRows(PartRows):
    """Rows of a zero-inflated or hurdle family; the last part is ``z``.

    Zero-inflated rows are not log-concave. A hurdle is a sum of two separate likelihoods, so it is
    where the base is.
    """

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        precision_weights: Array | None = None,
        frequency_weights: Array | None = None,
    ) -> None:
        base = base_family(family)
        self._z = len(base.parts)
        self._base_random = tuple(part for part in random if part < self._z)
        self._inflated = family.option("zero") == "inflated"
        y = np.asarray(response.y, dtype=np.float64)
        if np.any(y < 0) or not np.all(np.isfinite(y)):
            row = int(np.flatnonzero(~(np.isfinite(y) & (y >= 0)))[0])
            raise LikelihoodError(
                f"Responses of the {family.label} family are zero or positive.",
                f"{y[row]} in row {row + 1} of the rows used",
                "correct or leave out these rows, or choose another family",
            )
        self._y = y
        self._base = base
        self._precision = precision_weights
        zero, positive = np.flatnonzero(y == 0), np.flatnonzero(y > 0)
        self._positive = self._piece(positive, y)
        self._zero = self._piece(zero, np.zeros(y.size) if self._inflated else None)
        concave = not self._inflated and self._positive.rows.log_concave
        super().__init__(y.size, self._z + 1, tuple(random), concave, frequency_weights)

    def _piece(self, places: Places, y: Array | None) -> Piece[JetRows]:
        """The base's rows for responses ``y`` (n,) at some places; no rows where y is None."""
        at = places if y is not None else places[:0]
        values = self._y if y is None else y
        precision = None if self._precision is None else self._precision[at]
        response = Response(values[at])
        rows = row_likelihood(
            self._base, response, None, self._base_random, precision_weights=precision
        )
        return Piece(places, rows)

    def _values(self, eta: Array, rows: slice) -> Array:
        z = eta[self._z]
        out: Array = -np.logaddexp(0.0, z)
        at, piece = self._positive.within(rows)
        out[:, at] += self._positive.rows.value(eta[: self._z][:, :, at], piece)
        at, piece = self._zero.within(rows)
        if self._inflated:
            v = self._zero.rows.value(eta[: self._z][:, :, at], piece)
            out[:, at] += np.logaddexp(z[:, at], v)
        else:
            out[:, at] += z[:, at]
        return out

    def _firsts(self, eta: Array, rows: slice) -> tuple[Array, Array]:
        z = eta[self._z]
        out = -np.logaddexp(0.0, z)
        slope = np.zeros(eta.shape)
        slope[-1] = -special.expit(z)
        at, piece = self._positive.within(rows)
        value, first = self._positive.rows.first(eta[: self._z][:, :, at], piece)
        out[:, at] += value
        slope[:-1, :, at] = first
        at, piece = self._zero.within(rows)
        if not self._inflated:
            out[:, at] += z[:, at]
            slope[-1, :, at] += 1.0
            return out, slope
        value, first = self._zero.rows.first(eta[: self._z][:, :, at], piece)
        out[:, at] += np.logaddexp(z[:, at], value)
        p = special.expit(value - z[:, at])
        slope[:-1, :, at] = p * first
        # 1 - p - s(z), without cancellation of the two
        slope[-1][:, at] = special.expit(z[:, at] - value) - special.expit(z[:, at])
        return out, slope

    def _all(self, eta: Array, rows: slice) -> RowDerivatives:
        D, m = eta.shape
        R = len(self.random)
        z = eta[self._z]
        found = RowDerivatives(
            -np.logaddexp(0.0, z), np.zeros((D, m)), np.zeros((R, D, m)), np.zeros((R, R, D, m))
        )
        at, piece = self._positive.within(rows)
        self._add(found, at, self._positive.rows.derivatives(eta[: self._z, at], piece))
        at, piece = self._zero.within(rows)
        if self._inflated:
            base = self._zero.rows.derivatives(eta[: self._z, at], piece)
            self._add(found, at, self._mixed(base, z[at]))
        else:
            found.value[at] += z[at]
            found.first[-1, at] += 1.0
        s = special.expit(z)
        found.first[-1] -= s
        if self._z in self.random:
            slope = s * special.expit(-z)
            found.second[-1, -1] -= slope
            found.third[-1, -1, -1] -= slope * (special.expit(-z) - s)
        return found

    def _add(self, found: RowDerivatives, at: Places, part: RowDerivatives) -> None:
        """Add derivatives of some rows, in the base's parts only or in all."""
        d, r = part.first.shape[0], part.second.shape[0]
        found.value[at] += part.value
        found.first[:d, at] += part.first
        found.second[:r, :d, at] += part.second
        found.third[:r, :r, :d, at] += part.third

    def _mixed(self, base: RowDerivatives, z: Array) -> RowDerivatives:
        """Derivatives of ``log(e^z + e^v)`` in all parts from those of ``v`` in the base's."""
        Rb, m = len(self._base_random), z.size
        p, rest = special.expit(base.value - z), special.expit(z - base.value)
        c = p * rest
        c3 = c * (rest - p)
        # v - z and v as functions of all parts; z is the last part and, if random, last there too.
        D, R, random = self.n_parts, len(self.random), list(self.random)
        w1, v2, v3 = np.zeros((D, m)), np.zeros((R, D, m)), np.zeros((R, R, D, m))
        w1[:-1], w1[-1] = base.first, -1.0
        v2[:Rb, :-1] = base.second
        v3[:Rb, :Rb, :-1] = base.third
        first = p * w1
        first[-1] += 1.0  # p times -1 plus 1
        mine = w1[random]
        second = p * v2 + (c * mine)[:, None] * w1
        inner = v2[:, random]  # (R, R, m)
        third = (
            p * v3
            + (c * inner)[:, :, None] * w1
            + (c * v2)[:, None] * mine[None, :, None]
            + (c * v2)[None] * mine[:, None, None]
            + ((c3 * mine)[:, None] * mine)[:, :, None] * w1
        )
        return RowDerivatives(np.logaddexp(z, base.value), first, second, third)

    def start(self) -> Array:
        """(D,) the base's start from the positive responses, and the share of zeros.

        Inflated: half of the zeros are taken as structural.
        """
        weights = np.ones(self.n) if self._weights is None else self._weights
        zeros = float(weights @ (self._y == 0.0)) + 0.5
        share = zeros / (float(weights.sum()) + 1.0)
        if self._inflated:
            share *= 0.5
        seen = self._positive.rows
        if seen.n == 0:
            seen = self._everywhere(np.ones(1) * (0.5 if self._base.name == "beta" else 1.0))
        return np.concatenate([seen.start(), [float(special.logit(share))]])

    def _everywhere(self, y: Array, rows: slice | None = None) -> JetRows:
        """The base's rows for any responses (m,)."""
        weights = None if self._precision is None or rows is None else self._precision[rows]
        return row_likelihood(self._base, Response(y), None, (), precision_weights=weights)

    def _positive_base(self, rows: slice) -> JetRows:
        """The base's rows with a possible response everywhere (0.5 at zeros of proportions)."""
        y = self._y[rows]
        instead = 0.0 if self._inflated else (1.0 if self._base.name in COUNTS else 0.5)
        return self._everywhere(np.where(y > 0, y, instead), rows)

    def mean(self, eta: Array, rows: slice = ALL) -> Array:
        """(m,) ``(1 - pi)`` times the mean of the base (hurdle counts: without zeros)."""
        kept = special.expit(-eta[self._z])
        return np.asarray(kept * self._positive_base(rows).mean(eta[: self._z]))

    def variance(self, eta: Array, rows: slice = ALL) -> Array:
        """(m,) ``(1 - pi) (V + pi mu^2)``, V and mu the base's variance and mean."""
        base, inner = self._positive_base(rows), eta[: self._z]
        pi, kept = special.expit(eta[self._z]), special.expit(-eta[self._z])
        return np.asarray(kept * (base.variance(inner) + pi * base.mean(inner) ** 2))

    def cumulative(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array]:
        """``P(Y < y)`` and ``P(Y <= y)`` (m,)."""
        pi, kept = special.expit(eta[self._z]), special.expit(-eta[self._z])
        below, up_to = self._positive_base(rows).cumulative(eta[: self._z])
        zero = self._y[rows] == 0
        low = np.where(zero, 0.0, pi + kept * below)
        high = np.where(zero & (not self._inflated), pi, pi + kept * up_to)
        return low, np.asarray(np.minimum(high, 1.0))

    def draw(self, eta: Array, rng: np.random.Generator, rows: slice = ALL) -> Array:
        """(m,) simulated responses."""
        is_zero = rng.random(eta.shape[1]) < special.expit(eta[self._z])
        return np.where(is_zero, 0.0, self._positive_base(rows).draw(eta[: self._z], rng))


def zero_rows(
    family: Family,
    response: Response,
    order: NDArray[np.intp] | None,
    random: tuple[int, ...],
    *,
    precision_weights: Array | None = None,
    frequency_weights: Array | None = None,
) -> ZeroRows:
    """Row likelihood (and outcome distribution) of a zero-inflated or hurdle family.

    Parameters
    ----------
    family : of ``model.families.zero.with_zero``.
    response, order, random, frequency_weights : as in ``category_rows``.
    precision_weights : (n,) as the base family takes them, or None.

    Raises
    ------
    ModelError : a family without zero part.
    LikelihoodError : responses below zero.
    DesignError : positive responses or weights that the base family cannot have.
    """
    if order is not None:
        response = replace(response, y=response.y[order])
        if precision_weights is not None:
            precision_weights = np.ascontiguousarray(precision_weights[order])
        if frequency_weights is not None:
            frequency_weights = np.ascontiguousarray(frequency_weights[order])
    return ZeroRows(family, response, tuple(sorted(random)), precision_weights, frequency_weights)
