"""Internal centring and scaling, with the exact way back.

Cross-products square the condition number of their columns, so they are formed of centred and
scaled ones: ``W_s = [X y] U`` and ``Z_s = Z B``. Nothing is lost, because

* ``beta = c + s_y U_x beta_s`` where ``y_s = (y - X c) / s_y`` and ``X_s = X U_x``;
* ``b = B b_s`` (in units of y: times ``s_y``), hence ``Lambda = B Lambda_s`` up to a rotation;
* ``sigma2 = s_y^2 sigma2_s``;
* ML: ``d = d_s + n log s_y^2``; REML: ``d = d_s + (n - p) log s_y^2 - 2 log|det U_x|``.

``X`` is shifted only if it holds a constant column, ``Z`` only inside an unstructured term with a
constant column: there the shift is a change of basis, elsewhere it would change the model.
Source: own derivation (change of variables).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design, RandomBlock
from multilevel.errors import DesignError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """Linear maps between raw and scaled columns.

    Attributes
    ----------
    first : (m, m), centring and scaling of ``[X y]``.
    random : per block (q, q), ``Z_scaled = Z @ B``.
    second : (p, p) or None; makes nearly dependent columns orthogonal after the first map.

    The two maps are applied to the rows one after the other: their product has large entries,
    and applying it at once would lose the digits that the centring saves.
    """

    first: Array
    random: tuple[Array, ...]
    second: Array | None = None

    @cached_property
    def U(self) -> Array:
        """(m, m), ``[X y]_scaled = [X y] @ U``."""
        if self.second is None:
            return self.first
        p = self.second.shape[0]
        out = self.first.copy()
        out[:, :p] = self.first[:, :p] @ self.second
        return out

    def apply(self, X: Array, y: Array) -> Array:
        """Scaled ``[X y]`` (rows, m)."""
        p = X.shape[1]
        W = X @ self.first[:p] + np.outer(y, self.first[p])
        if self.second is not None:
            W[:, :p] = W[:, :p] @ self.second
        return np.asarray(W)

    @property
    def y_scale(self) -> float:
        """``s_y``."""
        return float(1.0 / self.U[-1, -1])

    @property
    def log_det_x(self) -> float:
        """``log|det U_x|``."""
        if self.U.shape[0] == 1:
            return 0.0
        return float(np.linalg.slogdet(self.U[:-1, :-1])[1])

    def criterion_shift(self, n: int, p: int, reml: bool) -> float:
        """What to add to the scaled criterion to get the raw one."""
        log_scale = 2.0 * np.log(self.y_scale)
        return float((n - p) * log_scale - 2.0 * self.log_det_x) if reml else float(n * log_scale)

    def beta(self, scaled: Array) -> Array:
        """Raw fixed effects from scaled ones, (p,)."""
        p = len(scaled)
        shift = -self.U[:p, p] * self.y_scale
        return shift + self.y_scale * (self.U[:p, :p] @ scaled)

    def vcov_beta(self, scaled: Array) -> Array:
        """Raw covariance of the fixed effects from the scaled one, (p, p)."""
        p = scaled.shape[0]
        Ux = self.U[:p, :p]
        return np.asarray(self.y_scale**2 * (Ux @ scaled @ Ux.T))

    def with_response(self, column: Array) -> Scaling:
        """The same scaling with another last column of the first map (a new response)."""
        first = self.first.copy()
        first[:, -1] = column
        return replace(self, first=first)

    def orthogonalised(self, gram: Array) -> Scaling:
        """The scaling whose ``X`` columns are orthonormal by the (p, p) Gram of this one's.

        A second pass over the rows with it repairs what the square of a large condition number
        takes away (CholeskyQR2: Fukaya et al. 2014).
        """
        values, vectors = np.linalg.eigh(gram)
        floor = 1e-15 * float(values[-1])
        map_ = vectors * (np.sqrt(gram[0, 0]) / np.sqrt(np.maximum(values, floor)))
        before = np.eye(len(gram)) if self.second is None else self.second
        return replace(self, second=before @ map_)


def _constant_column(columns: Array) -> int | None:
    """Index of the first column that is the constant one, if any (judged on every row)."""
    for k in range(columns.shape[1]):
        column = columns[:, k]
        if column[0] == 1.0 and column[-1] == 1.0 and bool(np.all(column == 1.0)):
            return k
    return None


def _moments(columns: Array, skip: int | None) -> tuple[Array, Array]:
    """Means and root mean squared deviations of the columns; the constant column keeps (0, 1)."""
    n, k = columns.shape
    means, spreads = np.zeros(k), np.ones(k)
    for j in range(k):
        if j == skip:
            continue
        column = columns[:, j]
        if skip is not None:
            means[j] = column.mean()
            # two-pass through a small shift: exact enough for a scale
            spread = float(np.sqrt(max(column.dot(column) / n - means[j] ** 2, 0.0)))
            if spread < 1e-6 * abs(means[j]):
                spread = float(column.std())
        else:
            spread = float(np.sqrt(column.dot(column) / n))
        spreads[j] = spread if spread > 0.0 else 1.0
    return means, spreads


def response_column(X: Array, y: Array, intercept: int | None) -> Array:
    """Last column of U for a response: centred if X has a constant, scaled to unit variance.

    Raises
    ------
    DesignError : the response does not vary.
    """
    p = X.shape[1]
    shift = float(y.mean()) if intercept is not None else 0.0
    deviation = y - shift
    spread = float(np.sqrt(deviation.dot(deviation) / len(y)))
    if spread <= 1e-13 * max(abs(shift), 1e-300):
        raise DesignError(
            "The response must vary.",
            f"every one of the {len(y)} analysed rows has the same value, {float(y[0]):g}",
            "check the response column and the rows that are analysed",
        )
    out = np.zeros(p + 1)
    out[p] = 1.0 / spread
    if intercept is not None:
        out[intercept] = -shift / spread
    return out


def _block_scale(block: RandomBlock) -> Array:
    """``B`` (q, q) of one block, term by term."""
    q = block.columns.shape[1]
    B = np.eye(q)
    for start, stop, structure in block.structure.terms:
        local = block.columns[:, start:stop]
        if structure not in ("unstructured", "diagonal"):  # one unit for all columns
            size = float(np.sqrt(np.mean(local**2))) or 1.0
            B[start:stop, start:stop] /= size
            continue
        # scaled effects keep their own columns: a change of basis would mix their scales
        is_free = structure == "unstructured" and block.scale is None
        constant = _constant_column(local) if is_free else None
        means, spreads = _moments(local, constant)
        for j in range(stop - start):
            B[start + j, start + j] = 1.0 / spreads[j]
            if constant is not None and j != constant:
                B[start + constant, start + j] = -means[j] / spreads[j]
    return B


def scaling_of(design: Design) -> Scaling:
    """Choose the scaling of a design (see the module's text)."""
    p = design.X.shape[1]
    U = np.zeros((p + 1, p + 1))
    constant = _constant_column(design.X) if p else None
    if p:
        means, spreads = _moments(design.X, constant)
        U[np.arange(p), np.arange(p)] = 1.0 / spreads
        if constant is not None:
            others = np.arange(p) != constant
            U[constant, :p][others] = -(means / spreads)[others]
    y = design.y if design.offset is None else design.y - design.offset
    U[:, p] = response_column(design.X, y, constant)
    return Scaling(U, tuple(_block_scale(block) for block in design.blocks))
