r"""From structural parameters to a generalized multilevel model: exact, analytic, complex-safe.

Given the random effects the outcomes of a row obey, causes before effects,

    eta = m + B_X x + B_O (y - J u) + u + L zeta,    u = sum over cluster columns c of E_c u_c

with ``L = A_OF (I - A_FF)^-1`` the total effects of latent variables of the row, ``B = A + L A_F.``
those of observed ones, and J the Gaussian outcomes with a between part (latent centring: their
within part is ``y - u``). So outcome entries are rows of a generalized model with fixed effects
``B``, random intercepts ``(I - B_O J) E_c u_c`` by cluster and ``L zeta`` by row. A random slope
``s | y ~ x`` adds ``s_c x`` to the predictor of y: one more random effect per outcome. A Gaussian
outcome whose residual covaries with others ``Q`` is taken given these: ``h = e_k - S_kQ S_QQ^-1
e_Q``; residuals that covary with inputs x are regressed on them first.
Between clusters the structural model gives the joint moments of ``(u_c, z)``; the observed level-2
variables z are conditioned on by the normal regression, their own density is added.

The factor of a covariance matrix of rank r is its Cholesky factor on r pivots, chosen once, and the
regression of the rest on these: analytic in the parameters, so all derivatives are complex steps.
Latent centring: Preacher, Zyphur & Zhang 2010; the reticular moments: McArdle & McDonald 1984.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_mixed import MixedDesign
from multilevel.errors import LikelihoodError
from multilevel.likelihood.structural.moments import Implied, LevelMap, level_map
from multilevel.likelihood.structural.objective import exogenous_moments

Array = NDArray[np.float64]
Numbers = NDArray[Any]
_TOLERANCE = 1e-10  # share of the largest variance below which a pivot is none


@dataclass(frozen=True)
class Predictors:
    """The generalized model at one point, per kind (K kinds, p outcomes, k inputs, S slopes).

    *Effects* (E = K (1 + S)) are the intercepts of all kinds, then for every random slope the
    coefficients of its predictor, kind by kind.

    Attributes
    ----------
    intercept : (E,) means of the effects.
    inputs : (K, k) slopes of the inputs; outcomes : (K, p) slopes of observed outcomes.
    z : per cluster column (E, p_z) slopes of the effects on level-2 variables.
    log_variance : (K,) of Gaussian kinds, zero for others.
    covariances : of the effects by block, (E, E): rows first if the model has latent variables
        there, then cluster columns.
    minus2_loglik : of the level-2 variables.
    """

    intercept: Numbers
    inputs: Numbers
    outcomes: Numbers
    z: tuple[Numbers, ...]
    log_variance: Numbers
    covariances: tuple[Numbers, ...]
    minus2_loglik: Any


@dataclass(frozen=True)
class RowModel:
    """The within level given the inputs: matrices of the module, by their letters.

    ``T = (I - A_FF)^-1``; ``c`` and ``log_variance`` as ``MixedMap`` conditions residuals.
    """

    A: Numbers
    S: Numbers
    m: Numbers
    T: Numbers
    L: Numbers
    B: Numbers
    h: Numbers
    c: Numbers
    log_variance: Numbers


class MixedMap:
    """The map of one design; ``predictors(theta)`` is its value."""

    def __init__(self, design: MixedDesign) -> None:
        model, self.design = design.model, design
        first = model.models[0]
        self.names = design.outcomes
        self.within = level_map(
            first, "within", 0, exogenous_moments(design.inputs, design.given).values
        )
        place = {name: i for i, name in enumerate(self.within.names)}
        self.outcomes = [place[n] for n in self.names]
        self.inputs = [place[n] for n in design.inputs]
        self.latent = [place[n] for n in first.latent_within]
        self.between: list[LevelMap] = []
        self._offsets: list[float] = []
        for m, factor in zip(model.models, design.factors, strict=False):
            at = [k for k, n in enumerate(m.between_only) if n in m.fixed_exogenous]
            own = exogenous_moments([m.between_only[k] for k in at], factor.z[:, at])
            self.between.append(level_map(m, "between", 0, own.values))
            self._offsets.append(own.minus2_loglik)
        split = set(model.split)
        self._centred = np.array(
            [1.0 if n in split and model.is_gaussian(n) else 0.0 for n in self.names]
        )
        self._entered = []
        slopes = model.slopes
        self.slope_outcomes = [self.names.index(s.outcome) for s in slopes]
        for m, _ in zip(model.models, design.factors, strict=False):
            E = np.zeros((len(self.names), len(m.both) + len(slopes)))
            for k, name in enumerate(m.both):
                E[self.names.index(name), k] = 1.0
            self._entered.append(E)
        self._sums = [(f.z.mean(axis=0) if f.z.size else np.zeros(f.z.shape[1]),
                       np.cov(f.z.T, bias=True).reshape(f.z.shape[1], -1) if f.z.size
                       else np.zeros((0, 0))) for f in design.factors]  # fmt: skip

    @property
    def has_rows(self) -> bool:
        """Whether rows have latent variables."""
        return bool(self.latent)

    def predictors(self, theta: Numbers) -> Predictors:
        """The generalized model at ``theta``, real or complex.

        Raises
        ------
        LikelihoodError : residual variances or level-2 covariances that do not exist.
        """
        f, own = self.latent, self.rows(theta)
        A, S, m, L, h = own.A, own.S, own.m, own.L, own.h
        BX = A[np.ix_(self.outcomes, self.inputs)] + L @ A[np.ix_(f, self.inputs)]
        mean = m[self.outcomes] + L @ m[f]
        K, n_s = len(h), len(self.slope_outcomes)
        intercept = np.concatenate([h @ mean, np.zeros(K * n_s)])
        covariances, z, total = [], [], 0.0
        if f:
            load = np.concatenate([h @ L, np.zeros((K * n_s, len(f)))])
            covariances.append(load @ S[np.ix_(f, f)] @ load.T)
        for k, level in enumerate(self.between):
            moved = self.moved(k, own)
            mean_u, R, G, value = self._given_z(k, level, theta)
            intercept = intercept + moved @ mean_u
            z.append(moved @ R)
            covariances.append(moved @ G @ moved.T)
            total = total + value
        return Predictors(intercept, h @ BX, h @ own.B + own.c, tuple(z), own.log_variance,
                          tuple(covariances), total)  # fmt: skip

    def rows(self, theta: Numbers) -> RowModel:
        """The within level, given the inputs."""
        o, f = self.outcomes, self.latent
        A, S, m = self._given_inputs(self.within.implied(theta))
        T = np.linalg.inv(np.eye(len(f)) - A[np.ix_(f, f)])
        L = A[np.ix_(o, f)] @ T
        B = A[np.ix_(o, o)] + L @ A[np.ix_(f, o)]
        h, c, log_variance = self._conditioned(S[np.ix_(o, o)], theta.dtype)
        return RowModel(A, S, m, T, L, B, h, c, log_variance)

    def moved(self, k: int, own: RowModel) -> Numbers:
        """(E, b) effects as functions of the between parts and slopes of a cluster column."""
        h = own.h
        centred = h @ (np.eye(len(self.outcomes)) - own.B * self._centred)
        K, n_s = len(h), len(self.slope_outcomes)
        out = np.zeros((K * (1 + n_s), self._entered[k].shape[1]), dtype=h.dtype)
        out[:K] = centred @ self._entered[k]
        first = out.shape[1] - n_s
        for s, outcome in enumerate(self.slope_outcomes):
            out[K * (1 + s) : K * (2 + s), first + s] = h[:, outcome]
        return out

    def _given_inputs(self, at: Implied) -> tuple[Numbers, Numbers, Numbers]:
        """Slopes, residual covariances and intercepts within, given the inputs x."""
        m = at.full_mean - at.A @ at.full_mean
        x, rest = self.inputs, self.outcomes + self.latent
        S_x = at.S[np.ix_(rest, x)]
        if not np.any(S_x):
            return at.A, at.S, m
        A, S = at.A.copy(), at.S.copy()
        K = np.linalg.solve(at.S[np.ix_(x, x)], S_x.T).T
        A[np.ix_(rest, x)] += K
        S[np.ix_(rest, rest)] -= K @ S_x.T
        m[rest] -= K @ m[x]
        return A, S, m

    def _conditioned(self, S: Numbers, dtype: Any) -> tuple[Numbers, Numbers, Numbers]:
        """``h`` and ``c`` (K, p) and log residual variances (K,) of all kinds."""
        kinds, p = self.design.kinds, len(self.names)
        h, c = np.zeros((len(kinds), p), dtype), np.zeros((len(kinds), p), dtype)
        log_variance = np.zeros(len(kinds), dtype)
        for i, kind in enumerate(kinds):
            k, Q = kind.outcome, list(kind.given)
            h[i, k] = 1.0
            if not self.design.model.is_gaussian(self.names[k]):
                continue
            variance = S[k, k]
            if Q:
                slopes = np.linalg.solve(S[np.ix_(Q, Q)], S[Q, k])
                h[i, Q] -= slopes
                c[i, Q] += slopes
                variance = variance - slopes @ S[Q, k]
            if not variance.real > 0.0:
                raise LikelihoodError(
                    "Residual variances are positive.",
                    f"{variance.real:.3g} for {self.names[k]} at the within level",
                    "take a shorter step",
                )
            log_variance[i] = np.log(variance)
        return h, c, log_variance

    def _given_z(
        self, k: int, level: LevelMap, theta: Numbers
    ) -> tuple[Numbers, Numbers, Numbers, Any]:
        """Moments of ``u`` given z: intercepts, slopes, covariance; and -2 log density of z."""
        at, b = level.implied(theta), self._entered[k].shape[1]
        mean, cov = at.mean, at.cov
        n_z = len(mean) - b
        if not n_z:
            return mean, np.zeros((b, 0)), cov, 0.0
        Szz = cov[b:, b:]
        if not float(np.linalg.eigvalsh(Szz.real).min()) > 0.0:
            raise LikelihoodError(
                "Level-2 variables have a positive definite covariance matrix.",
                "one that is not", "take a shorter step",
            )  # fmt: skip
        R = np.linalg.solve(Szz, cov[b:, :b]).T
        J = len(self.design.factors[k].z)
        average, spread = self._sums[k]
        d = average - mean[b:]
        inverse = np.linalg.inv(Szz)
        value = J * (
            np.log(np.linalg.det(Szz)) + np.trace(inverse @ spread) + d @ inverse @ d
            + n_z * np.log(2.0 * np.pi)
        ) - self._offsets[k]  # fmt: skip
        return mean[:b] - R @ mean[b:], R, cov[:b, :b] - R @ cov[b:, :b], value

    def z_scores(self, theta: Numbers, k: int) -> Numbers:
        """(J,) -2 log density of each cluster's level-2 variables, without the constant offset."""
        at, b = self.between[k].implied(theta), self._entered[k].shape[1]
        z = self.design.factors[k].z
        if not z.shape[1]:
            return np.zeros(len(z), theta.dtype)
        cov = at.cov[b:, b:]
        d = z - at.mean[b:]
        found: Numbers = np.einsum("ja,ab,jb->j", d, np.linalg.inv(cov), d)
        return np.asarray(found + np.log(np.linalg.det(cov)))


def pivots_of(covariance: Array) -> tuple[int, ...]:
    """Rows on which a positive semi-definite matrix has its full rank (pivoted Cholesky)."""
    rest = np.array(covariance, dtype=np.float64)
    limit = _TOLERANCE * max(float(np.diag(rest).max(initial=0.0)), 1e-300)
    chosen: list[int] = []
    for _ in range(len(rest)):
        i = int(np.argmax(np.diag(rest)))
        if rest[i, i] <= limit:
            break
        chosen.append(i)
        rest = rest - np.outer(rest[:, i], rest[i]) / rest[i, i]
    return tuple(sorted(chosen))


def factor_of(covariance: Numbers, pivots: tuple[int, ...], what: str) -> Numbers:
    """``Lambda`` (K, K), its first r columns used, with ``Lambda Lambda'`` the given matrix.

    Raises
    ------
    LikelihoodError : a matrix that is not positive definite on the pivots.
    """
    K, r = len(covariance), len(pivots)
    P = list(pivots)
    inner = covariance[np.ix_(P, P)]
    L = np.zeros((r, r), dtype=covariance.dtype)
    for a in range(r):
        for b in range(a + 1):
            s = inner[a, b] - L[a, :b] @ L[b, :b]
            if a > b:
                L[a, b] = s / L[b, b]
            elif s.real > 0.0:
                L[a, a] = np.sqrt(s)
            else:
                raise LikelihoodError(
                    f"The random effects of {what} have a positive definite covariance matrix.",
                    f"a variance of {s.real:.3g} given the others", "take a shorter step",
                )  # fmt: skip
    out = np.zeros((K, K), dtype=covariance.dtype)
    if r:
        out[:, :r] = np.linalg.solve(L, covariance[P, :]).T
        out[P, :r] = L
    return out
