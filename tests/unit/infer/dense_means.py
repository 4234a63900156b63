"""Kenward-Roger and Satterthwaite from their definitions, with V, rows and all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import evaluated
from multilevel.estimate.prepare import prepare
from tests.support.designs import design_of
from tests.support.oracle import random_rows


@dataclass(frozen=True)
class Problem:
    rows: object
    prepared: object
    fit: object
    objective: object
    structure: str


def problem(
    kind, seed, *, engine=None, method="reml", weighted=False, p=3, structure="unstructured"
):
    rows = random_rows(kind, seed, weighted=weighted, p=p)
    prepared = prepare(
        design_of(rows, [structure] * len(rows.blocks)), method=method, engine=engine
    )
    fit = solve(prepared)
    return Problem(rows, prepared, fit, evaluated(prepared, fit), structure)


def interior(kind, **options):
    """The first random problem of a kind whose optimum is not on the boundary."""
    for seed in range(200):
        found = problem(kind, seed, **options)
        smallest = [
            np.linalg.eigvalsh(G)[0] / max(np.trace(G), 1e-300) for G in found.fit.random_covariance
        ]
        if found.fit.certificate.status == "certified" and min(smallest) > 1e-3:
            return found
    raise AssertionError(f"no interior fit of kind {kind}")


def linear_basis(q, structure):
    """Matrices that span the covariances of a structure."""
    if structure == "diagonal":
        return [np.diag(row) for row in np.eye(q)]
    if structure == "identity":
        return [np.eye(q)]
    if structure == "compound_symmetry" and q > 1:
        return [np.eye(q), np.ones((q, q))]
    out = []
    for a in range(q):
        for b in range(a + 1):
            E = np.zeros((q, q))
            E[a, b] = E[b, a] = 1.0
            out.append(E)
    return out


@dataclass(frozen=True)
class Dense:
    """V and its derivatives by the elements of G and by sigma2, on the user's scale."""

    V: np.ndarray
    parts: list
    X: np.ndarray
    y: np.ndarray

    @property
    def Vi(self):
        return np.linalg.inv(self.V)

    @property
    def Phi(self):
        return np.linalg.inv(self.X.T @ self.Vi @ self.X)

    @property
    def projection(self):
        Vi = self.Vi
        return Vi - Vi @ self.X @ self.Phi @ self.X.T @ Vi


def dense(found) -> Dense:
    rows, fit = found.rows, found.fit
    n = len(rows.y)
    R = np.diag(1.0 / (np.ones(n) if rows.weights is None else rows.weights))
    V, parts = fit.sigma2 * R, []
    for (codes, columns), G in zip(rows.blocks, fit.random_covariance, strict=True):
        same = codes[:, None] == codes[None, :]
        V = V + same * (columns @ G @ columns.T)
        parts += [
            same * (columns @ E @ columns.T)
            for E in linear_basis(columns.shape[1], found.structure)
        ]
    return Dense(V, [*parts, R], rows.X, rows.y)


def kenward_roger(found):
    """``(Phi, Phi_A, slopes Phi P_i Phi, W)`` by Kenward & Roger 1997."""
    d = dense(found)
    Vi, Phi, X = d.Vi, d.Phi, d.X
    left = [X.T @ Vi @ part for part in d.parts]
    P = [-a @ Vi @ X for a in left]
    k = len(P)
    info = np.empty((k, k))
    middle = [[None] * k for _ in range(k)]
    for i in range(k):
        for j in range(k):
            Q = left[i] @ Vi @ left[j].T
            middle[i][j] = Q - P[i] @ Phi @ P[j]
            t = np.trace(Vi @ d.parts[i] @ Vi @ d.parts[j])
            info[i, j] = t - 2 * np.trace(Phi @ Q) + np.trace(Phi @ P[i] @ Phi @ P[j])
    W = 2 * np.linalg.inv(info)
    extra = sum(W[i, j] * middle[i][j] for i in range(k) for j in range(k))
    return Phi, Phi + 2 * Phi @ extra @ Phi, [Phi @ a @ Phi for a in P], W


def kenward_roger_f(found, L, beta):
    """``(lambda F, df)`` of ``L beta = 0`` by the formulas of the paper."""
    Phi, adjusted, slopes, W = kenward_roger(found)
    l = len(L)
    Theta = L.T @ np.linalg.inv(L @ Phi @ L.T) @ L
    k = len(slopes)
    A1 = sum(
        W[i, j] * np.trace(Theta @ slopes[i]) * np.trace(Theta @ slopes[j])
        for i in range(k)
        for j in range(k)
    )
    A2 = sum(
        W[i, j] * np.trace(Theta @ slopes[i] @ Theta @ slopes[j])
        for i in range(k)
        for j in range(k)
    )
    B = (A1 + 6 * A2) / (2 * l)
    g = ((l + 1) * A1 - (l + 4) * A2) / ((l + 2) * A2)
    den = 3 * l + 2 * (1 - g)
    c1, c2, c3 = g / den, (l - g) / den, (l + 2 - g) / den
    E = 1 / (1 - A2 / l)
    variance = 2 / l * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
    rho = variance / (2 * E**2)
    df = 4 + (l + 2) / (l * rho - 1)
    F = (L @ beta) @ np.linalg.solve(L @ adjusted @ L.T, L @ beta) / l
    return df / (E * (df - 2)) * F, df


def satterthwaite_df(found, L):
    """df of each row from the observed information in (elements of G, sigma2)."""
    d = dense(found)
    Vi, M, Phi, X, y = d.Vi, d.projection, d.Phi, d.X, d.y
    inner = M if found.fit.method == "reml" else Vi
    k = len(d.parts)
    H = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            A, B = d.parts[i], d.parts[j]
            H[i, j] = -np.trace(inner @ A @ inner @ B) + 2 * (M @ y) @ A @ M @ B @ (M @ y)
    W = 2 * np.linalg.inv((H + H.T) / 2)
    slopes = [Phi @ X.T @ Vi @ part @ Vi @ X @ Phi for part in d.parts]
    out = []
    for l in L:
        g = np.array([l @ s @ l for s in slopes])
        out.append(2 * (l @ Phi @ l) ** 2 / (g @ W @ g))
    return np.array(out)
