"""Nested structural likelihoods by brute force: one dense normal density of all data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.likelihood.structural.nested import NestedMoments, upper_statistics
from multilevel.likelihood.structural.random_slopes import SlopeMoments, slope_statistics
from multilevel.likelihood.structural.statistics import group_statistics
from multilevel.likelihood.structural.two_level import Moments


@dataclass
class Setting:
    """Random data of three or four levels, with what the likelihood takes."""

    y: np.ndarray
    codes: np.ndarray
    z: np.ndarray
    n_both: int
    predictor: int
    uppers: list
    stats: object
    sums: tuple
    point: NestedMoments


def spread(rng, k):
    root = rng.normal(size=(k, k))
    return root @ root.T + 0.5 * np.eye(k)


def setting(seed, *, n_z=2, n_z3=2, has_slope=False, has_four=False, holes=0.25) -> Setting:
    rng = np.random.default_rng(seed)
    p, b, J = 3, 2, 9
    sizes = rng.integers(1, 6, J)
    codes = np.repeat(np.arange(J), sizes)
    unit3 = np.unique(np.sort(rng.integers(0, 4, J)), return_inverse=True)[1].astype(np.intp)
    K = int(unit3.max()) + 1
    y = rng.normal(2.0, 1.0, (len(codes), p))
    z, z3 = rng.normal(-1.0, 1.0, (J, n_z)), rng.normal(size=(K, n_z3))
    y[rng.random(y.shape) < holes] = np.nan
    z[rng.random(z.shape) < holes] = np.nan
    z3[rng.random(z3.shape) < holes] = np.nan
    x, k = p - 1, int(has_slope)
    if has_slope:
        y[np.isnan(y[:, x])] = np.nan
    d = b + k
    uppers = [(unit3, np.arange(min(4, d + n_z)), z3)]
    if has_four:
        unit4 = (np.arange(K) // 2).astype(np.intp)
        lift = np.array([0, len(uppers[0][1])]) if n_z3 else np.array([0])
        uppers.append((unit4, lift, rng.normal(size=(int(unit4.max()) + 1, 1))))
    N = np.zeros((p, d))
    N[:b, :b] = np.eye(b)
    if has_slope:
        N[0, b], N[1, b] = 1.0, 0.4
    stats = slope_statistics(group_statistics(y, codes, z, b), np.array([x] * k, dtype=np.intp))
    low = Moments(
        rng.normal(size=p), spread(rng, p), rng.normal(size=d + n_z), spread(rng, d + n_z)
    )
    sizes_up = [len(lift) + values.shape[1] for _, lift, values in uppers]
    point = NestedMoments(
        SlopeMoments(low, N), tuple((rng.normal(size=n), spread(rng, n)) for n in sizes_up)
    )
    sums = tuple(upper_statistics(*u) for u in uppers)
    return Setting(y, codes, z, b, x, uppers, stats, sums, point)


def minus2_loglik(s: Setting) -> float:
    """Minus twice the log of the joint density of all observed values."""
    mean, V, data = joint_moments(s)
    e = data - mean
    return np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e) + len(e) * np.log(2.0 * np.pi)


def joint_moments(s: Setting):
    """Mean and covariance of all observed values, and these values."""
    low, N = s.point.lower.at, s.point.lower.N
    d = N.shape[1]
    covs = [low.cov_between, *(c for _, c in s.point.upper)]
    means = [low.mean_between, *(m for m, _ in s.point.upper)]
    units = [len(s.z), *(len(u[2]) for u in s.uppers)]
    start = np.r_[0, np.cumsum([n * len(m) for n, m in zip(units, means, strict=True)])]
    size = start[-1]

    def loading(level, unit, entry):
        row = np.zeros(size)
        row[start[level] + unit * len(means[level]) + entry] = 1.0
        if level < len(s.uppers):
            above = np.flatnonzero(s.uppers[level][1] == entry)
            if len(above):
                row += loading(level + 1, s.uppers[level][0][unit], above[0])
        return row

    rows, data, fixed, owner = [], [], [], []
    for i, values in enumerate(s.y):
        x = np.r_[np.ones(s.n_both), np.full(d - s.n_both, values[s.predictor])]
        for v in np.flatnonzero(~np.isnan(values)):
            parts = [N[v, c] * x[c] * loading(0, s.codes[i], c) for c in range(d) if N[v, c]]
            rows.append(sum(parts, np.zeros(size)))
            data.append(values[v])
            fixed.append(low.mean_within[v])
            owner.append((i, v))
    for level, table in enumerate([s.z, *(u[2] for u in s.uppers)]):
        first = d if level == 0 else len(s.uppers[level - 1][1])
        for unit, v in np.argwhere(~np.isnan(table)):
            rows.append(loading(level, unit, first + v))
            data.append(table[unit, v])
            fixed.append(0.0)
            owner.append((-1, v))
    L = np.array(rows)
    S = np.zeros((size, size))
    for level, n in enumerate(units):
        P = len(means[level])
        for unit in range(n):
            at = start[level] + unit * P
            S[at : at + P, at : at + P] = covs[level]
    V = L @ S @ L.T
    for a, (i, v) in enumerate(owner):
        for c, (k, w) in enumerate(owner):
            if i >= 0 and i == k:
                V[a, c] += low.cov_within[v, w]
    mean = L @ np.concatenate([np.tile(m, n) for n, m in zip(units, means, strict=True)])
    return np.array(fixed) + mean, V, np.array(data)
