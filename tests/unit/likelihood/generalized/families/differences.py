"""Derivatives of a row likelihood against central differences of the order below."""

from __future__ import annotations

import numpy as np


def check_derivatives(rows, eta, tol=1e-6, h=1e-4):
    """value/first/newton/derivatives agree with each other and with differences, all rows."""
    D = rows.n_parts
    found = rows.derivatives(eta)
    random = list(rows.random)
    np.testing.assert_allclose(rows.value(eta[:, None])[0], found.value, rtol=1e-12, atol=1e-13)
    value, first = rows.first(eta[:, None])
    np.testing.assert_allclose(value[0], found.value, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(first[:, 0], found.first, rtol=1e-9, atol=1e-11)
    value, slope, curve = rows.newton(eta)
    np.testing.assert_allclose(value, found.value, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(slope, found.first[random], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(curve, found.second[:, random], rtol=1e-9, atol=1e-11)

    def close(one, other):
        scale = 1.0 + np.abs(other)
        np.testing.assert_allclose(one / scale, other / scale, atol=tol)

    for d in range(D):
        step = np.zeros((D, 1))
        step[d] = h

        def slope_of(get, step=step):
            near = get(eta + step) - get(eta - step)
            far = get(eta + 2 * step) - get(eta - 2 * step)
            return (8.0 * near - far) / (12.0 * h)

        close(slope_of(lambda e: rows.value(e[:, None])[0]), found.first[d])
        if random:
            close(slope_of(lambda e: rows.derivatives(e).first[random]), found.second[:, d])
            second = slope_of(lambda e: rows.derivatives(e).second[:, random])
            close(second, found.third[:, :, d])
