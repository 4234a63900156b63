r"""Residual correlations as tables: unconstrained parameters to distinct entries, with derivatives.

A correlation matrix of any unit is ``values[index]``: its entries come from a short table, by lag
(``cs``, ``ar1``, ``arma11``, ``toep``, ``car1``, ``exp``, ``gau``, ``sph``) or by pair of
occasions (``un``, ``fa``). So a derivative of the likelihood in the entries is added up by table
entry once, whatever the number of units, and one small product gives the gradient.

Maps from the unconstrained ``x``:

* ``cs``: ``rho = a + (1 - a) / (1 + e^-x)``, ``a = -1/(T-1)`` for units of at most T rows;
* ``ar1``: ``rho = tanh x``; ``arma11``: both ``tanh`` (Box & Jenkins: ``rho_1 =
  (1 + rho t)(rho + t)/(1 + 2 rho t + t^2)``, then ``rho_h = rho_1 rho^(h-1)``);
* ``toep``: partial autocorrelations ``tanh x`` through the Durbin-Levinson recursion, so every
  set is positive definite (Barndorff-Nielsen & Schou 1973); with a band, ``rho_h = tanh x_h`` and
  a set that is not positive definite is refused by the factorisation;
* ``car1``, ``exp``, ``gau``, ``sph``: ``range = e^x``; ``car1`` reports ``phi = exp(-1/range)``;
* ``un``: rows of a triangle with unit diagonal, scaled to length one (Pinheiro & Bates 1996);
* ``fa``: rows of loadings ``l_i``, ``rho_ij = l_i'l_j / sqrt((1 + l_i'l_i)(1 + l_j'l_j))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CorrelationMap:
    """One structure over the lags or occasions of a design.

    Attributes
    ----------
    structure : short name.
    lags : (U,) distinct lags, the first is 0 (by lag); empty by pair of occasions.
    occasions : labels of the occasions (``un``, ``fa``), T of them.
    order : band or rank.
    largest : rows of the largest unit (``cs``).
    unit : a typical lag, for start values of ranges.
    """

    structure: str
    lags: Array
    occasions: tuple[str, ...] = ()
    order: int = 0
    largest: int = 2
    unit: float = 1.0

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        T = len(self.occasions)
        if self.structure == "un":
            return T * (T - 1) // 2
        if self.structure == "fa":
            return len(_loading_places(T, self.order)[0])
        if self.structure in ("toep", "toeph"):
            top = round(float(self.lags.max(initial=0.0)))
            return min(self.order, top) if self.order else top
        return {"ind": 0, "diag": 0, "arma11": 2}.get(self.structure, 1)

    def start(self) -> Array:
        """Start values: modest positive correlations."""
        k = self.n_parameters
        if self.structure == "fa":
            rows, columns = _loading_places(len(self.occasions), self.order)
            return np.where(columns == 0, 0.8, 0.25 * np.where((rows + columns) % 2, 1.0, -1.0))
        if self.structure == "cs" or self.structure == "csh":
            low = -1.0 / (self.largest - 1)
            share = (0.2 - low) / (1.0 - low)
            return np.array([np.log(share / (1.0 - share))])
        if self.structure in ("car1", "exp", "gau", "sph"):
            return np.array([np.log(self.unit * (2.0 if self.structure == "sph" else 1.0))])
        if self.structure == "arma11":
            return np.array([0.5, -0.1])
        start = np.zeros(k)
        if k and self.structure != "un":
            start[0] = 0.2
        return start

    def table(self, x: Array) -> tuple[Array, Array]:
        """Entries (U,) and their derivatives (K, U) at the unconstrained ``x`` (K,)."""
        if self.structure in ("un", "fa"):
            return self._by_pair(x)
        if self.structure in ("ind", "diag"):
            return np.where(self.lags == 0.0, 1.0, 0.0), np.zeros((0, len(self.lags)))
        if self.structure in ("cs", "csh"):
            return self._exchangeable(x)
        if self.structure in ("ar1", "arh1"):
            return self._autoregressive(x)
        if self.structure == "arma11":
            return self._arma(x)
        if self.structure in ("toep", "toeph"):
            return self._toeplitz(x)
        return self._decay(x)

    def natural(self, x: Array) -> Array:
        """Parameters as they are reported: correlations, ranges, loadings (K',)."""
        if self.structure in ("un", "fa"):
            rows = self._unit_rows(x)
            if self.structure == "fa":
                return rows[_loading_places(len(self.occasions), self.order)]
            return (rows @ rows.T)[_below(len(self.occasions))]
        if self.structure in ("cs", "csh"):
            low = -1.0 / (self.largest - 1)
            return low + (1.0 - low) / (1.0 + np.exp(-_bounded(x)))
        if self.structure == "car1":
            return np.exp(-np.exp(-_bounded(x)))
        if self.structure in ("exp", "gau", "sph"):
            return np.exp(_bounded(x))
        if self.structure in ("toep", "toeph"):
            return self._lag_correlations(x)[0][1:]
        return np.tanh(x)

    def names(self) -> tuple[str, ...]:
        """Names of the natural parameters."""
        if self.structure == "un":
            rows, columns = _below(len(self.occasions))
            o = self.occasions
            return tuple(f"cor({o[j]}, {o[i]})" for i, j in zip(rows, columns, strict=True))
        if self.structure == "fa":
            rows, columns = _loading_places(len(self.occasions), self.order)
            return tuple(
                f"loading({self.occasions[i]}, {j + 1})" for i, j in zip(rows, columns, strict=True)
            )
        if self.structure in ("toep", "toeph"):
            return tuple(f"rho({h + 1})" for h in range(self.n_parameters))
        if self.structure == "arma11":
            return ("rho", "theta")
        single = {"car1": "phi", "exp": "range", "gau": "range", "sph": "range"}
        return () if self.n_parameters == 0 else (single.get(self.structure, "rho"),)

    # -- by lag --------------------------------------------------------------------------------

    def _exchangeable(self, x: Array) -> tuple[Array, Array]:
        low = -1.0 / (self.largest - 1)
        share = float(1.0 / (1.0 + np.exp(-_bounded(x)[0])))
        apart = self.lags > 0.0
        rho = low + (1.0 - low) * share
        slope = (1.0 - low) * share * (1.0 - share)
        return np.where(apart, rho, 1.0), np.where(apart, slope, 0.0)[None]

    def _autoregressive(self, x: Array) -> tuple[Array, Array]:
        rho, h = float(np.tanh(x[0])), self.lags
        slope = np.where(h > 0.0, h * _power(rho, h - 1.0), 0.0) * (1.0 - rho**2)
        return _power(rho, h), slope[None]

    def _arma(self, x: Array) -> tuple[Array, Array]:
        (rho, t), h = np.tanh(x), self.lags
        top, bottom = (1.0 + rho * t) * (rho + t), 1.0 + 2.0 * rho * t + t * t
        first = top / bottom
        by_rho = 1.0 - top * 2.0 * t / bottom**2
        by_t = (1.0 + rho**2 + 2.0 * rho * t) / bottom - top * 2.0 * (rho + t) / bottom**2
        decay = _power(rho, h - 1.0)
        more = np.where(h > 1.0, (h - 1.0) * _power(rho, h - 2.0), 0.0)
        apart = h > 0.0
        values = np.where(apart, first * decay, 1.0)
        slopes = np.stack([by_rho * decay + first * more, by_t * decay])
        return values, np.where(apart, slopes, 0.0) * (1.0 - np.array([[rho**2], [t**2]]))

    def _toeplitz(self, x: Array) -> tuple[Array, Array]:
        values, slopes = self._lag_correlations(x)
        place = np.rint(self.lags).astype(np.intp)
        inside = place < len(values)
        place = np.where(inside, place, 0)
        return np.where(inside, values[place], 0.0), np.where(inside, slopes[:, place], 0.0)

    def _lag_correlations(self, x: Array) -> tuple[Array, Array]:
        """Correlations at lags 0, 1, ... and their derivatives (K, lags)."""
        k = len(x)
        p, dp = np.tanh(x), 1.0 - np.tanh(x) ** 2
        values, slopes = np.zeros(k + 1), np.zeros((k, k + 1))
        values[0] = 1.0
        if self.order:
            values[1:] = p
            slopes[np.arange(k), np.arange(1, k + 1)] = dp
            return values, slopes
        a, da = np.zeros(0), np.zeros((k, 0))
        v, dv = 1.0, np.zeros(k)
        for h in range(1, k + 1):
            own = np.zeros(k)
            own[h - 1] = dp[h - 1]
            back, dback = values[h - 1 : 0 : -1], slopes[:, h - 1 : 0 : -1]
            values[h] = p[h - 1] * v + a @ back
            slopes[:, h] = own * v + p[h - 1] * dv + da @ back + dback @ a
            da = np.column_stack([da - np.outer(own, a[::-1]) - p[h - 1] * da[:, ::-1], own])
            a = np.append(a - p[h - 1] * a[::-1], p[h - 1])
            dv = dv * (1.0 - p[h - 1] ** 2) - 2.0 * v * p[h - 1] * own
            v = v * (1.0 - p[h - 1] ** 2)
        return values, slopes

    def _decay(self, x: Array) -> tuple[Array, Array]:
        u = self.lags / np.exp(_bounded(x)[0])
        if self.structure == "gau":
            values = np.exp(-(u**2))
            return values, (2.0 * u**2 * values)[None]
        if self.structure == "sph":
            near = u < 1.0
            values = np.where(near, 1.0 - 1.5 * u + 0.5 * u**3, 0.0)
            return values, np.where(near, 1.5 * (u - u**3), 0.0)[None]
        values = np.exp(-u)
        return values, (u * values)[None]

    # -- by pair of occasions ------------------------------------------------------------------

    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        T = len(self.occasions)
        return _below(T) if self.structure == "un" else _loading_places(T, self.order)

    def _raw_rows(self, x: Array) -> tuple[Array, Array]:
        """Rows before scaling, and their lengths."""
        T = len(self.occasions)
        rows = np.eye(T) if self.structure == "un" else np.zeros((T, min(self.order, T)))
        rows[self._places()] = x
        extra = 0.0 if self.structure == "un" else 1.0
        return rows, np.sqrt((rows**2).sum(1) + extra)

    def _unit_rows(self, x: Array) -> Array:
        rows, length = self._raw_rows(x)
        return rows / length[:, None]

    def _by_pair(self, x: Array) -> tuple[Array, Array]:
        rows, length = self._raw_rows(x)
        rows = rows / length[:, None]
        T = len(rows)
        values = rows @ rows.T
        np.fill_diagonal(values, 1.0)
        # parameter k moves row i by (e_j - row_i row_ij) / length_i, so its inner products by
        i, j = self._places()
        lines = (rows.T[j] - (rows @ rows.T)[i] * rows[i, j][:, None]) / length[i][:, None]
        k = np.arange(len(x))
        lines[k, i] = 0.0
        slopes = np.zeros((len(x), T, T))
        slopes[k, i] = lines
        slopes[k, :, i] = lines
        return values.ravel(), slopes.reshape(len(x), -1)


def _bounded(x: Array) -> Array:
    """Unconstrained parameters far beyond any use kept within the range of the exponential."""
    return np.clip(x, -300.0, 300.0)


def _power(base: float, exponent: Array) -> Array:
    """``base^exponent`` with whole exponents; negative ones (unused entries) give 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(exponent >= 0.0, np.power(base, np.maximum(exponent, 0.0)), 0.0)


@lru_cache(maxsize=256)
def _below(T: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places below the diagonal, row by row."""
    return np.tril_indices(T, -1)


@lru_cache(maxsize=256)
def _loading_places(T: int, rank: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of free loadings: a lower trapezium."""
    rows, columns = np.tril_indices(T, 0, min(rank, T))
    return rows, columns


def natural_names(maps: Sequence[CorrelationMap], groups: Sequence[str]) -> tuple[str, ...]:
    """Names of the natural parameters of all groups."""
    tail = [f" [{group}]" if len(groups) > 1 else "" for group in groups]
    return tuple(
        name + end for m, end in zip(maps, tail[: len(maps)], strict=True) for name in m.names()
    )
