"""Rows of a unit turned into independent ones, and the score of the residual covariance.

``set(phi)`` factorises; ``decorrelate`` applies ``L^-1`` to scaled rows; ``score`` contracts
``I - UY'`` (per unit) with the derivatives of ``R``. Units of one size are handled together;
units with the same lags share one factor. First-order Markov correlations (``ar1``, ``car1``,
``exp``) need the row before only: ``w_i = (a_i - r_i a_(i-1)) / sqrt(1 - r_i^2)``, O(n).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.design.residual_layout import ResidualLayout
from multilevel.design.residual_time import distance, is_markov
from multilevel.errors import LikelihoodError

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
LARGEST_LOG_SD = 25.0


@dataclass
class _Stack:
    """Units of one size, sorted by pattern; ``T`` rows each.

    ``rows`` (N, T) sorted rows; ``pattern`` (N,) ascending; ``first`` where each pattern starts;
    ``index`` (P, T, T) into the table of entries; ``inverse`` (P, T, T) ``L^-1``.
    """

    rows: NDArray[np.intp]
    pattern: IntArray
    first: IntArray
    counts: Array
    index: IntArray
    inverse: Array | None = None

    def root(self) -> Array:
        """``L^-1`` of each unit, or one for all (broadcasts)."""
        if self.inverse is None:
            raise LikelihoodError("The residual covariance must be set.", "unset", "call set(phi)")
        return self.inverse if len(self.inverse) == 1 else self.inverse[self.pattern]


def variance_parts(layout: ResidualLayout) -> tuple[Array, Array]:
    """Of the sorted rows: columns of the log variance, and what weights add to the log sd."""
    A = np.ascontiguousarray(layout.variance_columns[layout.order])
    w = layout.weights
    return A, np.zeros(len(A)) if w is None else -0.5 * np.log(w[layout.order])


class Whitener:
    """The residual covariance of one layout as a function of ``phi`` (K,).

    ``phi`` holds the coefficients of the log variance, then the correlation parameters of each
    category. Rows are the sorted rows of the layout throughout.
    """

    def __init__(self, layout: ResidualLayout) -> None:
        self.layout = layout
        #: fixed_log_sd (n,): what weights add to the log standard deviation of the sorted rows
        self.A, self.fixed_log_sd = variance_parts(layout)
        self.n = len(layout.order)
        ends = np.cumsum([self.A.shape[1], *(m.n_parameters for m in layout.maps)])
        self.variance = slice(0, int(ends[0]))
        self.correlation = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self.n_parameters = int(ends[-1])
        self.is_markov = is_markov(layout.term, layout.position)
        self.sd: Array = np.ones(self.n)
        self.logdet = 0.0
        self.smallest_pivot = 1.0  # of the correlation matrices: 0 is a correlation of one
        self._derivatives: list[Array] = []
        self._sizes = [0]
        self._stacks: list[_Stack] = []
        self._r: Array = np.zeros(0)
        self._s: Array = np.zeros(0)
        self._index: IntArray = np.zeros(0, dtype=np.int64)
        if layout.maps:
            self._index_entries()

    def start(self) -> Array:
        """Start values: equal variances, modest correlations."""
        parts = [np.zeros(self.A.shape[1]), *(m.start() for m in self.layout.maps)]
        return np.concatenate(parts)

    # -- layout --------------------------------------------------------------------------------

    def _index_entries(self) -> None:
        layout = self.layout
        first = layout.maps[0]
        by_pair = len(first.lags) == 0
        T = len(first.occasions)
        self._table_size = T * T if by_pair else len(first.lags)
        place = layout.position[layout.order]
        counts = np.diff(layout.starts)
        unit = np.repeat(np.arange(len(counts)), counts)
        shift = layout.group_of * self._table_size
        if self.is_markov:
            self._is_first = np.ones(self.n, dtype=bool)
            self._is_first[1:] = unit[1:] != unit[:-1]
            lag = np.zeros(self.n)
            lag[1:] = distance(place[1:], place[:-1])
            lag[self._is_first] = 0.0
            self._index = np.searchsorted(first.lags, lag) + shift[unit]
            return
        for size in np.unique(counts):
            members = np.flatnonzero(counts == size)
            rows = layout.starts[members][:, None] + np.arange(size)
            if by_pair:
                o = place[rows, 0].astype(np.int64)
                index = o[:, :, None] * T + o[:, None, :]
            else:
                gaps = distance(place[rows][:, :, None], place[rows][:, None, :])
                if first.structure in ("cs", "csh"):
                    gaps = np.broadcast_to(1.0 - np.eye(size), gaps.shape)
                index = np.searchsorted(first.lags, gaps)
            index = index + shift[members][:, None, None]
            flat = index.reshape(len(members), -1)
            distinct, member = np.unique(flat, axis=0, return_inverse=True)
            member = member.reshape(-1)
            order = np.argsort(member, kind="stable")
            pattern = member[order]
            starts = np.searchsorted(pattern, np.arange(len(distinct)))
            tally = np.bincount(pattern).astype(np.float64)
            self._stacks.append(
                _Stack(rows[order], pattern, starts, tally, distinct.reshape(-1, size, size))
            )

    # -- value ---------------------------------------------------------------------------------

    def set(self, phi: Array) -> None:
        """Factorise at ``phi`` (K,).

        Raises
        ------
        LikelihoodError : correlations that are not positive definite, or variances out of range.
        """
        log_sd = 0.5 * (self.A @ phi[self.variance])
        if not np.all(np.isfinite(phi)) or np.abs(log_sd).max(initial=0.0) > LARGEST_LOG_SD:
            raise LikelihoodError(
                "The residual variance must stay within its numeric range.",
                "a coefficient of the log variance that is too large",
                "rescale the predictors of scale=",
            )
        log_sd = log_sd + self.fixed_log_sd
        self.sd = np.exp(log_sd)
        self.logdet = 2.0 * float(log_sd.sum())
        self.smallest_pivot = 1.0
        if not self.layout.maps:
            return
        tables = [m.table(phi[s]) for m, s in zip(self.layout.maps, self.correlation, strict=True)]
        values = np.concatenate([v for v, _ in tables])
        self._derivatives = [d for _, d in tables]
        if self.is_markov:
            self._set_markov(values)
            return
        for stack in self._stacks:
            try:
                L = np.linalg.cholesky(values[stack.index])
            except np.linalg.LinAlgError as error:
                raise _indefinite() from error
            diagonal = np.einsum("paa->pa", L)
            if float(diagonal.min()) < 1e-6:
                raise _indefinite()
            self.smallest_pivot = min(self.smallest_pivot, float(diagonal.min()))
            self.logdet += 2.0 * float(stack.counts @ np.log(diagonal).sum(1))
            stack.inverse = np.linalg.inv(L)

    def _set_markov(self, values: Array) -> None:
        r = np.where(self._is_first, 0.0, values[self._index])
        gap = 1.0 - r * r
        if float(gap.min()) < 1e-12:
            raise _indefinite()
        self._r, self._s = r, 1.0 / np.sqrt(gap)
        self.smallest_pivot = float(np.sqrt(gap.min()))
        self.logdet += float(np.log(gap).sum())

    def decorrelate(self, F: Array) -> Array:
        """``L^-1 F`` for rows F (n, c) that are divided by their standard deviations."""
        if not self.layout.maps:
            return F
        if self.is_markov:
            out = F.copy()
            out[1:] -= self._r[1:, None] * F[:-1]
            out *= self._s[:, None]
            return out
        out = np.empty_like(F)
        for stack in self._stacks:
            out[stack.rows] = stack.root() @ F[stack.rows]
        return out

    def decorrelate_transposed(self, F: Array) -> Array:
        """``L^-T F`` for rows F (n, c)."""
        if not self.layout.maps:
            return F
        if self.is_markov:
            out = F * self._s[:, None]
            out[:-1] -= (self._r[1:] * self._s[1:])[:, None] * F[1:]
            return out
        out = np.empty_like(F)
        for stack in self._stacks:
            out[stack.rows] = stack.root().transpose(0, 2, 1) @ F[stack.rows]
        return out

    def colour(self, E: Array) -> Array:
        """``D L E``: independent rows E (n, c) turned into residuals (relative to sigma)."""
        out = E
        if self.is_markov:
            out = E / self._s[:, None]
            start = np.flatnonzero(self._is_first)
            length = np.diff(np.append(start, self.n))
            for k in range(1, int(length.max())):
                rows = start[length > k] + k
                out[rows] += self._r[rows, None] * out[rows - 1]
        elif self.layout.maps:
            out = np.empty_like(E)
            for stack in self._stacks:
                out[stack.rows] = np.linalg.solve(stack.root(), E[stack.rows])
        return np.asarray(out * self.sd[:, None])

    def inverse_diagonal(self) -> Array:
        """Diagonal of ``R^-1`` (relative to sigma2): (n,)."""
        out = np.ones(self.n)
        if self.is_markov and self.layout.maps:
            out = self._s**2
            out[:-1] += (self._r[1:] * self._s[1:]) ** 2
        elif self.layout.maps:
            for stack in self._stacks:
                out[stack.rows] = (stack.root() ** 2).sum(axis=1)
        return np.asarray(out / self.sd**2)

    def total(self) -> float:
        """``1'R1`` relative to sigma2: the sum of all residual covariances."""
        return float((self._times_root(self.sd[:, None]) ** 2).sum())

    # -- first derivatives ---------------------------------------------------------------------

    def score(self, U: Array, Y: Array, Y_scaled: Array) -> Array:
        """``tr{(I - UY') L^-1 D^-1 dR D^-1 L^-T}`` summed over units: (K,).

        Parameters
        ----------
        U, Y : (n, c) whitened columns; ``UY'`` is symmetric within units.
        Y_scaled : (n, c) the columns of which ``Y`` is ``decorrelate``.
        """
        back = self.decorrelate_transposed(U)
        per_row = 1.0 - np.einsum("ic,ic->i", back, Y_scaled)
        if not self.layout.maps:
            return self._collected(per_row, np.zeros(0))
        G = self._score_markov(U, Y, Y_scaled) if self.is_markov else self._score_entries(U, Y)
        return self._collected(per_row, G)

    def compiled_score(
        self, scaled: Array, code: NDArray[np.int32], top: Array, B: Array, S: Array
    ) -> Array:
        """The same for Markov correlations by the compiled kernel (see there): (K,)."""
        from multilevel.likelihood.residual.markov_kernels import markov_score

        per_row, slope = markov_score(
            np.ascontiguousarray(scaled), self._r, self._s, code, np.ascontiguousarray(top),
            np.ascontiguousarray(B), np.ascontiguousarray(S),
        )  # fmt: skip
        slope[self._is_first] = 0.0
        return self._collected(per_row, self._by_entry(self._index, slope))

    def _by_entry(self, index: IntArray, slope: Array) -> Array:
        size = self._table_size * len(self.layout.maps)
        return np.asarray(np.bincount(index, weights=slope, minlength=size))

    def _collected(self, per_row: Array, G: Array) -> Array:
        """Chain rule from rows and entries of the tables to ``phi``."""
        out = np.zeros(self.n_parameters)
        out[self.variance] = self.A.T @ per_row
        if not self.layout.maps:
            return out
        size = self._table_size
        for k, (where, D) in enumerate(zip(self.correlation, self._derivatives, strict=True)):
            out[where] = D @ G[k * size : (k + 1) * size]
        return out

    def _score_entries(self, U: Array, Y: Array) -> Array:
        """Derivative in every entry of the tables."""
        total = np.zeros(self._table_size * len(self.layout.maps))
        for stack in self._stacks:
            left, right = U[stack.rows], Y[stack.rows]
            if len(stack.counts) == 1:
                E = np.einsum("ntc,nsc->ts", left, right, optimize=True)[None]
            else:
                each = left @ right.transpose(0, 2, 1)
                E = np.add.reduceat(each, stack.first, axis=0)
            T = E.shape[1]
            S = stack.inverse
            if S is None:
                continue
            inside = stack.counts[:, None, None] * np.eye(T) - E
            bar = S.transpose(0, 2, 1) @ inside @ S
            bar = (bar + bar.transpose(0, 2, 1)) / 2.0
            total += np.bincount(stack.index.ravel(), weights=bar.ravel(), minlength=len(total))
        return total

    def _score_markov(self, U: Array, Y: Array, Y_scaled: Array) -> Array:
        r, s = self._r[1:], self._s[1:]
        moved = Y[1:] * (r * s * s)[:, None] - Y_scaled[:-1] * s[:, None]
        slope = -2.0 * r * s * s + 2.0 * np.einsum("ic,ic->i", U[1:], moved)
        slope[self._is_first[1:]] = 0.0
        return self._by_entry(self._index[1:], slope)

    # -- working columns -----------------------------------------------------------------------

    def working(self, e: Array, e_scaled: Array) -> Array:
        """``L^-1 D^-1 dR D^-1 L^-T e`` for every parameter: (n, K).

        Parameters
        ----------
        e : (n,) whitened; ``e_scaled`` (n,) its ``L e``, the rows before ``decorrelate``.

        With ``z = L^-T e``: for a coefficient of the log variance with column ``a`` this is
        ``{L^-1 (a L e) + L'(a z)} / 2``, for a correlation parameter ``L^-1 dC z``.
        """
        out = np.zeros((self.n, self.n_parameters))
        z = self.decorrelate_transposed(e[:, None])[:, 0]
        out[:, self.variance] = 0.5 * (
            self.decorrelate(self.A * e_scaled[:, None]) + self._times_root(self.A * z[:, None])
        )
        for group, (where, D) in enumerate(zip(self.correlation, self._derivatives, strict=True)):
            table = np.zeros((D.shape[0], self._table_size * len(self.layout.maps)))
            table[:, group * self._table_size : (group + 1) * self._table_size] = D
            if self.is_markov:
                for k, slopes in enumerate(table, start=where.start):
                    out[:, k] = self._working_markov(slopes, e, e_scaled)
                continue
            part = np.zeros((self.n, len(table)))
            for stack in self._stacks:
                own = z[stack.rows]
                for k, slopes in enumerate(table):
                    dC = slopes[stack.index]
                    dC = dC if len(dC) == 1 else dC[stack.pattern]
                    part[stack.rows, k] = (dC @ own[..., None])[..., 0]
            out[:, where] = self.decorrelate(part)
        return out

    def _working_markov(self, slopes: Array, e: Array, e_scaled: Array) -> Array:
        """``-dS L e - L'dS' e`` with ``S = L^-1``."""
        rate = np.where(self._is_first, 0.0, slopes[self._index])
        r, s = self._r, self._s
        first = rate * e * r * s * s
        first[1:] -= rate[1:] * s[1:] * e_scaled[:-1]
        second = rate * r * s**3 * e
        second[:-1] -= rate[1:] * s[1:] ** 3 * e[1:]
        return np.asarray(-first - self._times_root(second[:, None])[:, 0])

    def _times_root(self, F: Array) -> Array:
        """``L'F`` for rows F (n, c)."""
        if not self.layout.maps:
            return F
        if not self.is_markov:
            out = np.empty_like(F)
            for stack in self._stacks:
                root = np.broadcast_to(stack.root(), (len(stack.rows), *stack.index.shape[1:]))
                out[stack.rows] = np.linalg.solve(root.transpose(0, 2, 1), F[stack.rows])
            return out
        out = F / self._s[:, None]
        start = np.flatnonzero(self._is_first)
        length = np.diff(np.append(start, self.n))
        for k in range(2, int(length.max()) + 1):
            rows = start[length >= k] + length[length >= k] - k
            out[rows] += (self._r * self._s)[rows + 1, None] * out[rows + 1] / self._s[rows, None]
        return out


def _indefinite() -> LikelihoodError:
    return LikelihoodError(
        "Residual correlations must be positive definite.",
        "a correlation matrix of one unit that is not",
        "use a structure with fewer parameters",
    )
