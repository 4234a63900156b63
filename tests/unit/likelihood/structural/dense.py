"""The structural likelihood by brute force: one dense normal density per cluster."""

from __future__ import annotations

import numpy as np

from multilevel.likelihood.structural.two_level import Moments


def random_group(rng, *, p=4, n_both=2, n_z=2, sizes=(1, 3, 4, 4, 2), holes=0.25, holes_z=0.3):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    y = rng.normal(2.0, 1.0, (len(codes), p)) + rng.normal(size=(len(sizes), 1))[codes]
    z = rng.normal(-1.0, 1.0, (len(sizes), n_z))
    y[rng.random(y.shape) < holes] = np.nan
    z[rng.random(z.shape) < holes_z] = np.nan
    return y, codes, z, n_both


def random_moments(rng, p=4, n_both=2, n_z=2):
    def spread(k):
        root = rng.normal(size=(k, k))
        return root @ root.T + 0.5 * np.eye(k)

    mean_w = rng.normal(size=p)
    return Moments(mean_w, spread(p), rng.normal(size=n_both + n_z), spread(n_both + n_z))


def cluster_parts(y, codes, z, n_both, j):
    """Loadings L (of between variables), rows' positions and the observed data of cluster j."""
    p, n_z = y.shape[1], z.shape[1]
    data, loading, place = [], [], []
    for i in np.flatnonzero(codes == j):
        for v in range(p):
            if not np.isnan(y[i, v]):
                row = np.zeros(n_both + n_z)
                if v < n_both:
                    row[v] = 1.0
                data.append(y[i, v])
                loading.append(row)
                place.append((i, v))
    for v in range(n_z):
        if not np.isnan(z[j, v]):
            row = np.zeros(n_both + n_z)
            row[n_both + v] = 1.0
            data.append(z[j, v])
            loading.append(row)
            place.append((-1, v))
    return np.array(data), np.array(loading).reshape(len(data), n_both + n_z), place


def cluster_moments(L, place, at: Moments):
    """Mean and covariance of the observed data of one cluster."""
    mean = L @ at.mean_between
    V = L @ at.cov_between @ L.T
    for a, (i, v) in enumerate(place):
        if i >= 0:
            mean[a] += at.mean_within[v]
            for b, (k, w) in enumerate(place):
                if i == k:
                    V[a, b] += at.cov_within[v, w]
    return mean, V


def minus2_loglik(y, codes, z, n_both, at: Moments) -> float:
    total = 0.0
    for j in range(len(z)):
        data, L, place = cluster_parts(y, codes, z, n_both, j)
        mean, V = cluster_moments(L, place, at)
        if len(data):
            e = data - mean
            total += np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e)
            total += len(data) * np.log(2.0 * np.pi)
    return total
