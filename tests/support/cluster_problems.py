"""Made-up problems with nested factors and plain NumPy families, for tests of the engines.

Each family is written from the definition of its density, independent of the package's own.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, gammaln

from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.row import ALL, Response, RowDerivatives
from multilevel.model.covariance.structures import factor_map


class PlainRows:
    """Base: subclasses give ``terms(eta, y) -> l, l' (D,), l'' (D, D), l''' (D, D, D)``."""

    n_parts = 1
    log_concave = True

    def __init__(self, response, random):
        self.y, self.n, self.random = response.y, len(response.y), tuple(random)

    def value(self, eta, rows=ALL):
        return self.terms(eta, self.y[rows])[0]

    def first(self, eta, rows=ALL):
        value, first, _, _ = self.terms(eta, self.y[rows])
        return value, np.stack(first)

    def newton(self, eta, rows=ALL):
        value, first, second, _ = self.terms(eta, self.y[rows])
        R = self.random
        return (
            value,
            np.stack([first[r] for r in R]),
            np.stack([np.stack([second[r][s] for s in R]) for r in R]),
        )

    def derivatives(self, eta, rows=ALL):
        value, first, second, third = self.terms(eta, self.y[rows])
        R, D = self.random, range(self.n_parts)
        return RowDerivatives(
            value,
            np.stack(first),
            np.array([[second[r][d] for d in D] for r in R]),
            np.array([[[third[r][s][d] for d in D] for s in R] for r in R]),
        )

    def start(self):
        return np.zeros(self.n_parts)


class Logistic(PlainRows):
    def terms(self, eta, y):
        e = eta[0]
        p = expit(e)
        w = p * (1.0 - p)
        return y * e - np.logaddexp(0.0, e), [y - p], [[-w]], [[[-w * (1.0 - 2.0 * p)]]]


class Poisson(PlainRows):
    def terms(self, eta, y):
        mu = np.exp(eta[0])
        return y * eta[0] - mu - gammaln(y + 1.0), [y - mu], [[-mu]], [[[-mu]]]


class Student(PlainRows):
    """Student t with 4 degrees of freedom and scale 0.7: not log-concave; no constant."""

    log_concave = False
    nu, c = 4.0, 4.0 * 0.49

    def terms(self, eta, y):
        e = y - eta[0]
        s, k = self.c + e * e, self.nu + 1.0
        return (
            -0.5 * k * np.log(s / self.c),
            [k * e / s],
            [[-k * (self.c - e * e) / s**2]],
            [[[2.0 * k * e * (e * e - 3.0 * self.c) / s**3]]],
        )


class LocationScale(PlainRows):
    """Gaussian: mean eta_0, log standard deviation eta_1."""

    n_parts = 2
    log_concave = False

    def terms(self, eta, y):
        e, w = y - eta[0], np.exp(-2.0 * eta[1])
        value = -0.5 * np.log(2.0 * np.pi) - eta[1] - 0.5 * e * e * w
        l01, l001, l011 = -2.0 * e * w, 2.0 * w, 4.0 * e * w
        zero = np.zeros_like(e)
        return (
            value,
            [e * w, e * e * w - 1.0],
            [[-w, l01], [l01, -2.0 * e * e * w]],
            [[[zero, l001], [l001, l011]], [[l001, l011], [l011, 4.0 * e * e * w]]],
        )


class Gaussian(LocationScale):
    """The same, random effects in the mean only."""

    log_concave = True


FAMILIES = {
    "logistic": Logistic,
    "poisson": Poisson,
    "student": Student,
    "gaussian": Gaussian,
    "location scale": LocationScale,
}


def draw(name, eta, rng):
    """Responses at ``eta`` (D, n)."""
    if name == "logistic":
        return (rng.random(eta.shape[1]) < expit(eta[0])).astype(float)
    if name == "poisson":
        return rng.poisson(np.exp(np.minimum(eta[0], 4.0))).astype(float)
    if name == "student":
        return eta[0] + 0.7 * rng.standard_t(4, eta.shape[1])
    return eta[0] + np.exp(eta[1]) * rng.standard_normal(eta.shape[1])


def rows_of(name):
    cls = FAMILIES[name]

    def build(response: Response, order, random):
        return cls(response if order is None else response.take(order), random)

    return build


def problem_of(name, codes, terms, parts=None, seed=0):
    """A problem with one block per entry of ``codes``, ``terms`` and ``parts``; and its ``psi``."""
    rng = np.random.default_rng(seed)
    n, D = len(codes[0]), FAMILIES[name].n_parts
    fixed = [FixedPart(np.asfortranarray(np.c_[np.ones(n), rng.standard_normal(n)]))]
    fixed += [
        FixedPart(np.ones((n, 1), order="F"), 0.1 * rng.standard_normal(n)) for _ in range(D - 1)
    ]
    blocks = []
    for t, (code, term) in enumerate(zip(codes, terms, strict=True)):
        q = sum(width for width, _ in term)
        columns = np.asfortranarray(rng.standard_normal((n, q)))
        columns[:, 0] = 1.0
        part = (0,) * q if parts is None else parts[t]
        code = np.asarray(code, dtype=np.int32)
        blocks.append(EffectBlock(code, int(code.max()) + 1, columns, part, factor_map(term)))
    draft = GeneralizedProblem(Response(np.zeros(n)), tuple(fixed), tuple(blocks), rows_of(name))
    psi = rng.uniform(-0.5, 0.5, draft.n_parameters)
    psi[draft.n_fixed :] = rng.uniform(0.4, 0.9, draft.n_parameters - draft.n_fixed)
    eta = draft.fixed_predictors(psi)
    for block, Lam in zip(blocks, draft.factors(psi), strict=True):
        b = rng.standard_normal((block.n_levels, Lam.shape[0])) @ Lam.T
        for c, part_of_column in enumerate(block.parts):
            eta[part_of_column] += block.columns[:, c] * b[block.codes, c]
    response = Response(draw(name, eta, rng))
    return GeneralizedProblem(response, tuple(fixed), tuple(blocks), rows_of(name)), psi


def made_up(name, terms=((1, "unstructured"),), sizes=(4, 5, 3), seed=0, parts=None):
    """A random problem with one factor, rows in any order, and parameters inside the space."""
    codes = np.random.default_rng(seed + 1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return problem_of(name, (codes,), (tuple(terms),), None if parts is None else (parts,), seed)


def differences(objective, psi, step=1e-4):
    """Gradient by fourth-order central differences (P,); leaves the objective at ``psi``."""
    out = np.empty(psi.size)
    for a in range(psi.size):
        e = np.zeros(psi.size)
        e[a] = step
        near = objective.value(psi + e) - objective.value(psi - e)
        far = objective.value(psi + 2 * e) - objective.value(psi - 2 * e)
        out[a] = (8.0 * near - far) / (12.0 * step)
    objective.value(psi)
    return out
