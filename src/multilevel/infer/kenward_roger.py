r"""Kenward and Roger's adjusted covariance and F test (1997), from cross-products only.

In coordinates where ``Phi = I`` (columns of X times ``R^-1``) and ``sigma2 = 1``; parameters are
the elements of the absolute ``Psi`` per term and ``sigma2``. With ``K = Z'V^-1Z``,
``Y = Z'V^-1X R^-1`` and directions ``Z E_c Z'`` and ``V``:

    P_c  = -Y'E_c Y          P_V  = -I
    Q_cd = Y'E_c K E_d Y     Q_Vc = -P_c       Q_VV = I
    t_cd = tr(K E_c K E_d)   t_Vc = tr(K E_c)  t_VV = n

and the direction of sigma2 is ``V - sum Psi_c Z E_c Z'``. ``V`` is linear in the parameters, so
the second-derivative term of the paper vanishes. Expected information, as in the paper (SAS uses
the observed one by default: third digits differ).
Sources: Kenward & Roger 1997 (Biometrics 53:983); Halekoh & Hojsgaard 2014 for the 0/0 cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.infer.degrees_of_freedom import DfMethod, JointStatistic, independent_rows
from multilevel.infer.face import coordinates, linear_basis
from multilevel.infer.information_traces import pair_grams, trace
from multilevel.likelihood.gaussian.objective import GaussianObjective, Profile

Array = NDArray[np.float64]
MAX_TENSOR = 6e7  # doubles of the Q tensor


@dataclass(frozen=True)
class KenwardRoger:
    """Kenward and Roger's method for one fit.

    Attributes
    ----------
    vcov : (p, p) adjusted covariance, user's units.
    unadjusted : (p, p) model-based covariance.
    slopes : (r + 1, p, p) ``Phi P_i Phi`` in the user's units.
    parameter_covariance : (r + 1, r + 1) of (elements of Psi, sigma2).
    notes : sentences.
    """

    vcov: Array
    unadjusted: Array
    slopes: Array
    parameter_covariance: Array
    notes: tuple[str, ...]
    method: DfMethod = "kenward-roger"

    def row_df(self, L: Array) -> Array:
        """Degrees of freedom of each row: ``2 / A`` with ``A = sum W_ik s_i s_k / (l'Phi l)^2``."""
        f = np.einsum("kp,pq,kq->k", L, self.unadjusted, L, optimize=True)
        s = np.einsum("kp,ipq,kq->ki", L, self.slopes, L, optimize=True)
        A = np.einsum("ki,ij,kj->k", s, self.parameter_covariance, s, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(A > 0.0, 2.0 * f**2 / A, np.inf)

    def joint(self, L: Array, difference: Array) -> JointStatistic:
        """The scaled F test ``lambda F`` of several rows."""
        rows, gaps, variances = independent_rows(L, difference, self.unadjusted)
        rows, gaps = rows / np.sqrt(variances)[:, None], gaps / np.sqrt(variances)
        l = len(rows)
        S = np.einsum("ap,ipq,bq->iab", rows, self.slopes, rows, optimize=True)
        traces = np.einsum("iaa->i", S)
        A1 = float(traces @ self.parameter_covariance @ traces)
        A2 = float(np.einsum("ij,iab,jba->", self.parameter_covariance, S, S, optimize=True))
        df, factor = scaled_f(A1, A2, l)
        F = float(gaps @ np.linalg.solve(rows @ self.vcov @ rows.T, gaps)) / l
        return JointStatistic(factor * F, l, df)


def scaled_f(A1: float, A2: float, l: int) -> tuple[float, float]:
    """``(df, lambda)`` of Kenward and Roger's F with ``l`` rows; the published 0/0 cases guarded.

    ``A2 = 0`` (variances known exactly) gives ``(inf, 1)``.
    """
    if A2 <= 0.0:
        return float("inf"), 1.0
    if l == 1:
        return 2.0 / A2, 1.0  # what the general formula reduces to
    B = (A1 + 6.0 * A2) / (2.0 * l)
    g = ((l + 1) * A1 - (l + 4) * A2) / ((l + 2) * A2)
    den = 3.0 * l + 2.0 * (1.0 - g)
    c1, c2, c3 = g / den, (l - g) / den, (l + 2 - g) / den
    up, first, second = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    share = 1.0 - A2 / l
    ratio = 1.0 if abs(share) < 1e-10 and abs(first) < 1e-10 else share / first
    if abs(second) < 1e-12:
        return 4.0, 2.0 * share  # rho grows without bound
    rho = ratio**2 * max(up, 0.0) / (l * second)
    if abs(l * rho - 1.0) < 1e-14:
        return float("inf"), 1.0
    df = 4.0 + (l + 2) / (l * rho - 1.0)
    return df, 1.0 if abs(df - 2.0) < 1e-2 else df * share / (df - 2.0)


def kenward_roger(prepared: Prepared, fit: Fit, objective: GaussianObjective) -> KenwardRoger:
    """Kenward and Roger's method; ``objective`` is factorised at the fit's parameters.

    Raises
    ------
    InferenceError : an ML fit, no fixed effects, or a design too large for exact traces.
    """
    if fit.method != "reml":
        raise InferenceError(
            "Kenward-Roger is defined for REML fits.",
            "an ML fit",
            "use update(method='reml'), or df='satterthwaite'",
        )
    profile, p = objective.profile, objective.p
    if profile is None or p == 0:
        raise InferenceError(
            "Tests of fixed effects need fixed effects.", "a model without any", "add one"
        )
    bases = [
        linear_basis(mapping, fit.theta[s])
        for mapping, s in zip(objective.maps, objective.slices, strict=True)
    ]
    r = sum(len(E) for E in bases)
    if float(r + 1) ** 2 * p * p > MAX_TENSOR:
        raise InferenceError(
            "Kenward-Roger keeps a p x p matrix for each pair of covariance parameters.",
            f"{p} fixed effects and {r + 1} covariance parameters",
            "write df='satterthwaite'",
        )
    P, Q, t = _tensors(prepared, objective, bases)
    return from_tensors(prepared, fit, profile, P, Q, t)


def from_tensors(
    prepared: Prepared, fit: Fit, profile: Profile, P: Array, Q: Array, t: Array
) -> KenwardRoger:
    """The method from its tensors, in coordinates where ``Phi = I`` and ``sigma2 = 1``.

    ``P`` (k, p, p), ``Q`` (k, k, p, p), ``t`` (k, k) as in the module's text, for k directions of
    ``V``. First-order: the second derivatives of ``V`` are taken as zero.
    """
    PP = np.einsum("iab,jbc->ijac", P, P, optimize=True)
    information = t - 2.0 * np.einsum("ijaa->ij", Q) + np.einsum("ijaa->ij", PP)
    W, notes = _inverse_information(information)
    extra = np.einsum("ij,ijab->ab", W, Q - PP, optimize=True)
    return _in_user_units(prepared, fit, profile, P, W, extra, notes)


def _in_user_units(
    prepared: Prepared,
    fit: Fit,
    profile: Profile,
    P: Array,
    W: Array,
    extra: Array,
    notes: tuple[str, ...],
) -> KenwardRoger:
    p = fit.n_fixed
    R_inverse = np.linalg.solve(profile.R, np.eye(p))

    def back(inside: Array) -> Array:
        return prepared.scaling.vcov_beta(profile.sigma2 * (R_inverse @ inside @ R_inverse.T))

    adjusted = fit.vcov_beta + 2.0 * back((extra + extra.T) / 2.0)
    slopes = np.stack([back(part) for part in P])
    return KenwardRoger(adjusted, fit.vcov_beta, slopes, W, notes)


def _tensors(
    prepared: Prepared, objective: GaussianObjective, bases: list[Array]
) -> tuple[Array, Array, Array]:
    """``P`` (r+1, p, p), ``Q`` (r+1, r+1, p, p), ``t`` (r+1, r+1) in (elements of Psi, sigma2)."""
    engine, p, n = objective.engine, objective.p, objective.n
    Y = [part[0] for part in objective.projections()]
    where = [(t, E) for t, elements in enumerate(bases) for E in elements]
    r = len(where)
    P, Q, tr = np.zeros((r + 1, p, p)), np.zeros((r + 1, r + 1, p, p)), np.zeros((r + 1, r + 1))
    grams = pair_grams(engine, prepared.cross)
    P[r], Q[r, r], tr[r, r] = -np.eye(p), np.eye(p), float(n)
    for i, (t, E) in enumerate(where):
        C = [np.zeros_like(y) for y in Y]
        C[t] = E @ Y[t]
        P[i] = -_product(Y[t], C[t])
        KC = engine.information_product(C)
        for j, (s, F) in enumerate(where):
            Q[j, i] = _product(F @ Y[s], KC[s])
            tr[i, j] = trace(grams, t, E, s, F)
        Q[i, r] = Q[r, i] = -P[i]
        tr[i, r] = tr[r, i] = float(np.sum(engine.information_sum(t) * E))
    change = np.eye(r + 1)
    psi = [coordinates(E, L @ L.T) for E, L in zip(bases, objective.factors, strict=True)]
    change[r, :r] = -np.concatenate(psi) if psi else 0.0
    P = np.einsum("ij,jab->iab", change, P)
    Q = np.einsum("ik,jl,klab->ijab", change, change, Q, optimize=True)
    return P, Q, change @ tr @ change.T


def _product(left: Array, right: Array) -> Array:
    """``sum_j left_j' right_j`` (p, k) from (J, q, p) and (J, q, k)."""
    return np.asarray(left.reshape(-1, left.shape[2]).T @ right.reshape(-1, right.shape[2]))


def _inverse_information(information: Array) -> tuple[Array, tuple[str, ...]]:
    """``2 I^-1``; a generalised inverse, said so, where parameters cannot be told apart."""
    d = 1.0 / np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = information * d[:, None] * d
    values, vectors = np.linalg.eigh((scaled + scaled.T) / 2.0)
    kept = values > 1e-10 * float(values[-1])
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    W = 2.0 * inverse * d[:, None] * d
    if kept.all():
        return W, ()
    return W, ("Some variances cannot be told apart: a generalised inverse was used.",)
