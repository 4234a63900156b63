"""Small designs with pedigrees and memberships, and dense matrices from first principles."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multilevel.design.pedigree import from_pedigree


def tabular(sires, dams):
    """A by the tabular method (Emik & Terrill 1949); parents stand before their offspring."""
    n = len(sires)
    A = np.zeros((n, n))
    for i in range(n):
        parents = [p for p in (sires[i], dams[i]) if p is not None]
        for j in range(i):
            A[i, j] = A[j, i] = 0.5 * sum(A[j, p] for p in parents)
        A[i, i] = 1.0 + (0.5 * A[sires[i], dams[i]] if len(parents) == 2 else 0.0)
    return A


def random_pedigree(n, founders, rng):
    """Positions of sires and dams, None for unknown; some parents unknown, some inbred."""
    sires = [None if i < founders else int(rng.integers(0, i)) for i in range(n)]
    dams = [None if i < founders or i % 9 == 0 else int(rng.integers(0, i)) for i in range(n)]
    return sires, [None if s == d else d for s, d in zip(sires, dams, strict=True)]


def named(positions):
    return [None if p is None else f"a{p}" for p in positions]


def pedigree_relation(n, founders, rng):
    """A relation and A."""
    sires, dams = random_pedigree(n, founders, rng)
    made = from_pedigree(named(range(n)), named(sires), named(dams))
    return made, tabular(sires, dams)


def table(rng, n=90, n_animals=27):
    """Rows with an animal, a herd and one or two schools."""
    second = rng.integers(1, 8, n).astype(float)
    second[::7] = np.nan
    return pd.DataFrame(
        {
            "y": rng.normal(size=n) + 2.0,
            "x": rng.normal(size=n),
            "animal": rng.choice([f"a{i}" for i in range(n_animals)], n),
            "herd": rng.choice(list("hijkl"), n),
            "s1": rng.integers(1, 8, n),
            "s2": second,
            "w1": rng.uniform(0.2, 1.0, n),
            "w2": rng.uniform(0.2, 1.0, n),
        }
    )


def membership_matrix(data, columns, weights, levels, scale=True):
    """Loadings (n, J) row by row."""
    out = np.zeros((len(data), len(levels)))
    for i, row in enumerate(data.to_dict("records")):
        held = [k for k, c in enumerate(columns) if row[c] == row[c]]
        w = np.array([row[weights[k]] if weights else 1.0 for k in held])
        for k, share in zip(held, w / w.sum() if scale else w, strict=True):
            out[i, list(levels).index(row[columns[k]])] += share
    return out


def dense_criterion(y, X, V, reml):
    """-2 log-likelihood (restricted) of ``y ~ N(X beta, s2 V)``, beta and s2 profiled out."""
    n, p = X.shape
    inverse = np.linalg.inv(V)
    XX = X.T @ inverse @ X
    beta = np.linalg.solve(XX, X.T @ inverse @ y)
    r2 = (y - X @ beta) @ inverse @ (y - X @ beta)
    nu = n - p if reml else n
    d = np.linalg.slogdet(V)[1] + nu * (1.0 + np.log(2.0 * np.pi * r2 / nu))
    return d + (np.linalg.slogdet(XX)[1] if reml else 0.0), beta, r2 / nu
