"""Small row likelihoods in plain NumPy, so that engines are tested without the package's families.

``Gauss`` has two parts, mean and log standard deviation, either or both random; jointly it is not
log-concave. ``Student`` (4 degrees of freedom) is not log-concave either.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, gammaln

from multilevel.likelihood.generalized.row import ALL, RowDerivatives

LOG_2PI = float(np.log(2.0 * np.pi))


class PlainRows:
    """The contract from ``tower(eta, rows)``: l, first (D,), second (D, D), third (D, D, D)."""

    n_parts, log_concave = 1, True

    def __init__(self, response, order, random):
        y = response.y
        self.y = y if order is None else y[order]
        self.n, self.random = len(self.y), tuple(random)

    def value(self, eta, rows=ALL):
        return np.stack([self.tower(e, rows)[0] for e in np.moveaxis(eta, 1, 0)])

    def first(self, eta, rows=ALL):
        found = [self.tower(e, rows)[:2] for e in np.moveaxis(eta, 1, 0)]
        return np.stack([f[0] for f in found]), np.stack([f[1] for f in found], axis=1)

    def newton(self, eta, rows=ALL):
        l, d1, d2, _ = self.tower(eta, rows)
        r = list(self.random)
        return l, d1[r], d2[np.ix_(r, r)]

    def derivatives(self, eta, rows=ALL):
        l, d1, d2, d3 = self.tower(eta, rows)
        r = list(self.random)
        return RowDerivatives(l, d1, d2[r], d3[np.ix_(r, r)])

    def start(self):
        return np.zeros(self.n_parts)


class Logit(PlainRows):
    def tower(self, eta, rows=ALL):
        p, y = expit(eta[0]), self.y[rows]
        w = p * (1.0 - p)
        l = y * eta[0] - np.logaddexp(0.0, eta[0])
        return l, (y - p)[None], -w[None, None], (-w * (1.0 - 2.0 * p))[None, None, None]


class Poisson(PlainRows):
    def tower(self, eta, rows=ALL):
        with np.errstate(over="ignore"):
            mu, y = np.exp(eta[0]), self.y[rows]
        l = y * eta[0] - mu - gammaln(y + 1.0)
        return l, (y - mu)[None], -mu[None, None], -mu[None, None, None]


class Student(PlainRows):
    log_concave = False
    df = 4.0

    def tower(self, eta, rows=ALL):
        v = self.df
        e = self.y[rows] - eta[0]
        c = v + e * e
        constant = gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * np.log(v * np.pi)
        l = constant - (v + 1) / 2 * np.log1p(e * e / v)
        d1 = (v + 1) * e / c
        d2 = -(v + 1) * (v - e * e) / c**2
        d3 = 2 * (v + 1) * e * (e * e - 3 * v) / c**3
        return l, d1[None], d2[None, None], d3[None, None, None]


class Gauss(PlainRows):
    n_parts, log_concave = 2, False

    def tower(self, eta, rows=ALL):
        e, tau = self.y[rows] - eta[0], np.exp(-2.0 * np.maximum(eta[1], -100.0))
        l = -0.5 * LOG_2PI - eta[1] - 0.5 * e * e * tau
        d1 = np.stack([e * tau, e * e * tau - 1.0])
        d2 = np.empty((2, 2, len(e)))
        d2[0, 0], d2[1, 1] = -tau, -2.0 * e * e * tau
        d2[0, 1] = d2[1, 0] = -2.0 * e * tau
        d3 = np.zeros((2, 2, 2, len(e)))
        d3[0, 0, 1] = d3[0, 1, 0] = d3[1, 0, 0] = 2.0 * tau
        d3[0, 1, 1] = d3[1, 0, 1] = d3[1, 1, 0] = 4.0 * e * tau
        d3[1, 1, 1] = 4.0 * e * e * tau
        return l, d1, d2, d3


FAMILIES = {"logit": Logit, "poisson": Poisson, "student": Student, "gauss": Gauss}
