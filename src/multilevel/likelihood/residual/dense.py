"""The residual covariance of chosen rows, laid out, with its derivatives.

For printing, predictions and small-sample tests; the likelihood itself never forms it for
first-order Markov structures.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.residual_layout import ResidualLayout
from multilevel.design.residual_time import distance

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


def correlations(
    layout: ResidualLayout,
    phi: Array,
    units: tuple[IntArray, IntArray],
    places: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Correlations between two sets of rows, and their derivatives in ``phi``.

    Parameters
    ----------
    phi : (K,) unconstrained residual parameters.
    units : codes of the units of the rows, (..., a) and (..., b).
    places : their coordinates, (..., a, d) and (..., b, d).

    Returns
    -------
    (..., a, b), 1 where unit and place are the same; derivatives (K, ..., a, b).
    """
    left, right = units[0][..., :, None], units[1][..., None, :]
    gaps = distance(places[0][..., :, None, :], places[1][..., None, :, :])
    same = left == right
    out = np.where(same & (gaps == 0.0), 1.0, 0.0)
    slopes = np.zeros((len(phi), *out.shape))
    at = len(layout.variance_names)
    group = layout.group_of[np.broadcast_to(left, same.shape)]
    for g, m in enumerate(layout.maps):
        where = same & (group == g)
        x = phi[at : at + m.n_parameters]
        if len(m.lags):
            lags, index = np.unique(gaps[where], return_inverse=True)
            values, derivatives = replace(m, lags=lags).table(x)
        else:
            T = len(m.occasions)
            a = np.broadcast_to(places[0][..., :, None, 0], same.shape)[where].astype(np.intp)
            b = np.broadcast_to(places[1][..., None, :, 0], same.shape)[where].astype(np.intp)
            values, derivatives = m.table(x)
            index = a * T + b
        out[where] = values[index]
        slopes[at : at + m.n_parameters, where] = derivatives[:, index]
        at += m.n_parameters
    return out, slopes


def places_of(layout: ResidualLayout) -> Array:
    """Coordinates that tell rows apart (n, d); for ``cs`` the row number, its value unused."""
    if layout.term is not None and layout.term.structure in ("cs", "ind"):
        return np.arange(len(layout.order), dtype=np.float64)[:, None]
    return layout.position


def log_sd(layout: ResidualLayout, phi: Array) -> Array:
    """Log standard deviations of the analysed rows relative to sigma, weights included: (n,)."""
    out = 0.5 * (layout.variance_columns @ phi[: len(layout.variance_names)])
    return out if layout.weights is None else out - 0.5 * np.log(layout.weights)


def residual_matrices(
    layout: ResidualLayout, phi: Array, rows: NDArray[np.intp], derivatives: bool = False
) -> tuple[Array, Array]:
    """``R / sigma2`` of sets of analysed rows (N, T): (N, T, T); derivatives (K, N, T, T).

    Without ``derivatives`` the second array is empty.
    """
    units, place = layout.codes[rows].astype(np.int64), places_of(layout)[rows]
    C, slopes = correlations(layout, phi, (units, units), (place, place))
    s = log_sd(layout, phi)[rows]
    sd = np.exp(s)
    both = sd[..., :, None] * sd[..., None, :]
    R = C * both
    if not derivatives:
        return R, np.zeros((0, *R.shape))
    slopes *= both
    A = layout.variance_columns[rows]
    for k in range(A.shape[-1]):
        a = A[..., k]
        slopes[k] = 0.5 * (a[..., :, None] + a[..., None, :]) * R
    return R, slopes
