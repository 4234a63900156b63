r"""Random-effect structures that are not linear in their parameters: ``Psi(theta)`` of one term.

=================================  ==========================  ==================================
structure                          Psi                         theta
=================================  ==========================  ==================================
``ar1 arma11 toep car1 exp gau     ``s^2 C(x)``                ``s, x``
sph``
``arh1 toeph csh``                 ``D C(x) D``                ``log d_1 .. log d_q, x``
``fa`` (rank k)                    ``L L' + diag(v^2)``        ``v_1 .. v_q``, loadings by row
``rr`` (rank k)                    ``L L'``                    loadings by row
=================================  ==========================  ==================================

``C(x)`` is a :class:`CorrelationMap`: unconstrained ``x``, analytic derivatives. ``s`` and ``v``
carry a sign, so the criterion is smooth and even where they are zero and a variance of zero is
reached exactly. ``L`` is a lower trapezium (no rotation is left, only signs of its columns).
``Lambda`` is the lower Cholesky factor of ``Psi`` (``[L 0]`` for ``rr``), with

    dLambda = Lambda Phi(Lambda^-1 dPsi Lambda^-T),  Phi: lower triangle, diagonal halved

(Smith 1995). Second derivatives are central differences of the first, which cost nothing beside
one evaluation of a likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.model.covariance.correlation import CorrelationMap

Array = NDArray[np.float64]

HOMOGENEOUS = ("ar1", "arma11", "toep", "car1", "exp", "gau", "sph")
HETEROGENEOUS = ("arh1", "toeph", "csh")
FACTORED = ("fa", "rr")
CURVED = HOMOGENEOUS + HETEROGENEOUS + FACTORED
TIMED = (*HOMOGENEOUS, "arh1", "toeph")
STEPPED = ("ar1", "arh1", "arma11", "toep", "toeph")
_NUGGET = 1e-9  # keeps slowly falling Gaussian decay positive definite in floating point
_RIDGE = 1e-13  # relative, for factor-analytic matrices without uniqueness
_STEP = 1e-5
_SMALL = 1e-8


@dataclass(frozen=True)
class CurveMap:
    """The map of one nonlinear term of q columns.

    Attributes
    ----------
    structure : one of ``CURVED``.
    positions : (q,) place of each column: whole steps (``ar1 arma11 toep ...``), time.
    labels : (q,) names of the columns.
    order : band of ``toep`` (0: none), rank of ``fa`` and ``rr``.
    step : length of one step in units of time; NaN where none are counted.
    times : (q,) the value of time of each column; empty where time is a category.
    """

    structure: str
    positions: tuple[float, ...]
    labels: tuple[str, ...]
    order: int = 0
    step: float = float("nan")
    times: tuple[float, ...] = field(default=(), compare=False)

    @property
    def width(self) -> int:
        """q."""
        return len(self.labels)

    @cached_property
    def correlation(self) -> CorrelationMap:
        """The map of the correlations (not of ``fa`` and ``rr``)."""
        lags, _ = self._lags
        apart = lags[lags > 0.0]
        unit = float(apart.min()) if len(apart) else 1.0
        return CorrelationMap(self.structure, lags, (), self.order, self.width, unit)

    @cached_property
    def _lags(self) -> tuple[Array, NDArray[np.intp]]:
        if self.structure == "csh":
            return np.array([0.0, 1.0]), np.asarray(1 - np.eye(self.width, dtype=np.intp))
        place = np.asarray(self.positions, dtype=np.float64)
        gaps = np.abs(place[:, None] - place[None, :])
        lags: Array = np.unique(np.round(gaps, 10))
        index = np.searchsorted(lags, np.round(gaps, 10))
        return lags, np.asarray(index, dtype=np.intp)

    @cached_property
    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the free loadings."""
        return np.tril_indices(self.width, 0, min(self.order, self.width))

    @property
    def n_scales(self) -> int:
        """Parameters before the correlations or loadings: scales."""
        if self.structure in HOMOGENEOUS:
            return 1
        return 0 if self.structure == "rr" else self.width

    @property
    def n_parameters(self) -> int:
        """Length of ``theta``."""
        if self.structure in FACTORED:
            return self.n_scales + len(self._places[0])
        return self.n_scales + self.correlation.n_parameters

    # -- the map -------------------------------------------------------------------------------

    def correlations(self, theta: Array) -> tuple[Array, Array]:
        """``C`` (q, q) and its derivatives in ``x`` (K, q, q)."""
        values, slopes = self.correlation.table(theta[self.n_scales :])
        _, index = self._lags
        C, dC = values[index], slopes[:, index]
        if self.structure == "gau":
            off = np.where(np.eye(self.width) == 1.0, 1.0, 1.0 - _NUGGET)
            C, dC = C * off, dC * off
        return C, dC

    def loadings(self, theta: Array) -> Array:
        """``L`` (q, k) of ``fa`` and ``rr``."""
        L = np.zeros((self.width, min(self.order, self.width)))
        L[self._places] = theta[self.n_scales :]
        return L

    def covariance(self, theta: Array) -> Array:
        """``Psi`` (q, q)."""
        if self.structure in FACTORED:
            L = self.loadings(theta)
            return np.asarray(L @ L.T + np.diag(np.resize(theta[: self.n_scales] ** 2, self.width))
                              if self.n_scales else L @ L.T)  # fmt: skip
        C, _ = self.correlations(theta)
        if self.structure in HOMOGENEOUS:
            return np.asarray(theta[0] ** 2 * C)
        d = np.exp(np.clip(theta[: self.n_scales], -300.0, 300.0))
        return np.asarray(d[:, None] * C * d)

    def covariance_slopes(self, theta: Array) -> Array:
        """``dPsi/dtheta`` (r, q, q)."""
        q, m = self.width, self.n_scales
        out = np.zeros((self.n_parameters, q, q))
        if self.structure in FACTORED:
            L = self.loadings(theta)
            if m:
                out[np.arange(q), np.arange(q), np.arange(q)] = 2.0 * theta[:q]
            for k, (i, j) in enumerate(zip(*self._places, strict=True)):
                out[m + k, i] += L[:, j]
                out[m + k, :, i] += L[:, j]
            return out
        C, dC = self.correlations(theta)
        if self.structure in HOMOGENEOUS:
            out[0] = 2.0 * theta[0] * C
            out[1:] = theta[0] ** 2 * dC
            return out
        d = np.exp(np.clip(theta[:m], -300.0, 300.0))
        Psi = d[:, None] * C * d
        for a in range(q):
            out[a, a] += Psi[a]
            out[a, :, a] += Psi[a]
        out[m:] = d[:, None] * dC * d
        return out

    def factor(self, theta: Array) -> Array:
        """``Lambda`` (q, q), lower triangular.

        Raises
        ------
        LikelihoodError : correlations that no set of variables can have (banded ``toep``).
        """
        if self.structure == "rr":
            out = np.zeros((self.width, self.width))
            out[:, : min(self.order, self.width)] = self.loadings(theta)
            return out
        if self.structure in HOMOGENEOUS:
            return np.asarray(theta[0] * self._root(self.correlations(theta)[0]))
        Psi = self.covariance(theta)
        if self.structure == "fa":
            ridge = _RIDGE * max(float(np.trace(Psi)) / self.width, 1e-300)
            Psi = Psi + ridge * np.eye(self.width)
        return self._root(Psi)

    def slopes(self, theta: Array) -> Array:
        """``dLambda/dtheta`` (r, q, q)."""
        if self.structure == "rr":
            out = np.zeros((self.n_parameters, self.width, self.width))
            out[np.arange(self.n_parameters), *self._places] = 1.0
            return out
        if self.structure in HOMOGENEOUS:
            C, dC = self.correlations(theta)
            K = self._root(C)
            return np.concatenate([K[None], theta[0] * _root_slopes(K, dC)])
        return _root_slopes(self.factor(theta), self.covariance_slopes(theta))

    def bends(self, theta: Array, Q: Array) -> Array:
        """``<Q, d2Psi / dtheta_a dtheta_b>`` (r, r) for a symmetric Q (q, q)."""
        r = self.n_parameters
        out = np.zeros((r, r))
        for a in range(r):
            shift = np.zeros(r)
            shift[a] = _STEP * max(1.0, abs(float(theta[a])))
            up, down = self.covariance_slopes(theta + shift), self.covariance_slopes(theta - shift)
            out[a] = np.tensordot(up - down, Q, axes=2) / (2.0 * shift[a])
        return (out + out.T) / 2.0

    def _root(self, Psi: Array) -> Array:
        try:
            return np.asarray(np.linalg.cholesky(Psi))
        except np.linalg.LinAlgError as error:
            raise LikelihoodError(
                f"The {self.structure} covariance of {', '.join(self.labels[:3])}, ... must be "
                "positive definite.",
                "correlations that no set of variables can have",
                "take a shorter step, or use fewer parameters (ar1 in place of toep)",
            ) from error

    # -- zeros ---------------------------------------------------------------------------------

    def variances_at_zero(self, theta: Array) -> list[tuple[int, Array]]:
        """``(index of theta, P)`` for each scale that is zero: raising it adds ``t P`` to Psi."""
        if self.structure in HOMOGENEOUS:
            return [(0, self.correlations(theta)[0])] if theta[0] == 0.0 else []
        if self.structure != "fa":
            return []
        zero = np.flatnonzero(theta[: self.width] == 0.0)
        return [(int(a), np.diag(np.eye(self.width)[a])) for a in zero]

    @property
    def signed(self) -> int:
        """How many leading parameters are even: signed standard deviations."""
        return self.n_scales if self.structure in HOMOGENEOUS or self.structure == "fa" else 0

    @property
    def in_units(self) -> NDArray[np.bool_]:
        """Which parameters are in the units of the effects: standard deviations and loadings."""
        place = np.arange(self.n_parameters)
        return place < (self.n_parameters if self.structure in FACTORED else self.signed)

    def canonical(self, theta: Array) -> Array:
        """The same Psi with standard deviations and leading loadings that are not negative."""
        out = theta.copy()
        out[: self.signed] = np.abs(out[: self.signed])
        if self.structure in FACTORED:
            L = self.loadings(theta)
            k = L.shape[1]
            lead = np.array([L[np.argmax(np.abs(L[:, j]) > 0.0), j] for j in range(k)])
            out[self.n_scales :] = (L * np.where(lead < 0.0, -1.0, 1.0))[self._places]
        return out


def _root_slopes(K: Array, dPsi: Array) -> Array:
    """Derivatives (r, q, q) of the Cholesky factor K (q, q) from those of Psi (r, q, q)."""
    inverse = np.linalg.inv(K)
    inner = inverse @ dPsi @ inverse.T
    lower = np.tril(inner)
    diagonal = np.arange(len(K))
    lower[:, diagonal, diagonal] *= 0.5
    return np.asarray(K @ lower)
