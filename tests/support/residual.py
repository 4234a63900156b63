"""Residual structures by their textbook formulas, and the dense likelihood, for tests.

Nothing here is shared with the package: correlations are written out entry by entry, the
likelihood is that of one multivariate normal vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


def repeated_measures(seed: int, n_ids: int = 14, continuous: bool = False) -> pd.DataFrame:
    """Units of 1 to 6 rows with gaps, unsorted, in sites, with an arm and predictors."""
    rng = np.random.default_rng(seed)
    rows = []
    for j in range(n_ids):
        k = int(rng.integers(1, 7)) if j > 3 else 6
        times = np.sort(rng.choice(6, size=k, replace=False))
        b = rng.normal(size=2)
        e = np.cumsum(rng.normal(size=k)) * 0.6
        for t, r in zip(times, e, strict=True):
            x = rng.normal()
            when = float(t) if not continuous else float(t + rng.uniform(0.0, 0.7))
            y = 1.0 + 0.5 * when + x + b[0] + 0.2 * b[1] * t + r + 0.5 * rng.normal()
            rows.append((f"p{j}", f"s{j % 4}", f"arm{j % 2}", when, x, rng.uniform(0.5, 2.0), y))
    data = pd.DataFrame(rows, columns=["id", "site", "arm", "time", "x", "w", "y"])
    return data.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def arma_lag(rho: float, theta: float, h: int) -> float:
    """Autocorrelation of ``e_t = rho e_(t-1) + a_t + theta a_(t-1)`` from its expansion in a."""
    psi = np.empty(4000)
    psi[0], psi[1] = 1.0, rho + theta
    for k in range(2, len(psi)):
        psi[k] = rho * psi[k - 1]
    return float(psi[: len(psi) - h] @ psi[h:] / (psi @ psi))


def correlation(kind: str, p: Mapping[str, float], s: float, t: float) -> float:
    """Correlation of two rows at times ``s`` and ``t`` (not the same row)."""
    d = abs(s - t)
    if kind in ("cs", "csh", "ar1", "arh1"):
        return p["rho"] if kind in ("cs", "csh") else p["rho"] ** round(d)
    if kind == "arma11":
        return arma_lag(p["rho"], p["theta"], round(d))
    if kind in ("toep", "toeph"):
        return p.get(f"rho({round(d)})", 0.0)
    if kind == "car1":
        return p["phi"] ** d
    u = d / p.get("range", 1.0)
    if kind == "exp":
        return float(np.exp(-u))
    if kind == "gau":
        return float(np.exp(-u * u))
    if kind == "sph":
        return float(1.0 - 1.5 * u + 0.5 * u**3) if u < 1.0 else 0.0
    if kind == "un":
        a, b = sorted((s, t))
        return p[f"cor({a:g}, {b:g})"]
    if kind == "fa":
        common = 0.0
        for f in (1, 2, 3):
            common += p.get(f"loading({s:g}, {f})", 0.0) * p.get(f"loading({t:g}, {f})", 0.0)
        return common
    return 0.0


def residual_matrix(
    kind: str, p: Mapping[str, float], data: pd.DataFrame, by: str | None, scale: list[str]
) -> Array:
    """``R / sigma2`` of all rows, in the order of the table."""
    n = len(data)
    ids, times = data["id"].tolist(), data["time"].tolist()
    labels = [""] * n if by is None else data[by].tolist()
    sd = np.ones(n)
    for i in range(n):
        log_variance = sum(p[f"log_variance({name})"] * data[name][i] for name in scale)
        cell = [labels[i]] if by else []
        if kind in ("diag", "csh", "arh1", "toeph", "un", "fa"):
            cell.append(f"{times[i]:g}")
        log_variance += p.get(f"log_variance({', '.join(cell)})", 0.0)
        sd[i] = np.exp(0.5 * log_variance)
    R = np.eye(n)
    known: dict[tuple[str, float, float], float] = {}
    for i in range(n):
        for j in range(i):
            if ids[i] == ids[j] and kind not in ("ind", "diag"):
                key = (labels[i], times[i], times[j])
                if key not in known:
                    tag = f" [{labels[i]}]"
                    own = {**p, **{k.removesuffix(tag): v for k, v in p.items() if k.endswith(tag)}}
                    known[key] = correlation(kind, own, times[i], times[j])
                R[i, j] = R[j, i] = known[key]
    return R * np.outer(sd, sd)


def dense_criterion(V: Array, X: Array, y: Array, reml: bool) -> tuple[float, Array, float]:
    """-2 log-likelihood (or REML criterion), beta and sigma2 for ``y ~ N(X beta, sigma2 V)``."""
    inverse = np.linalg.inv(V)
    T = X.T @ inverse @ X
    beta = np.linalg.solve(T, X.T @ inverse @ y)
    e = y - X @ beta
    nu = len(y) - X.shape[1] if reml else len(y)
    sigma2 = float(e @ inverse @ e) / nu
    d = np.linalg.slogdet(V)[1] + nu * (1.0 + np.log(2.0 * np.pi * sigma2))
    d += np.linalg.slogdet(T)[1] if reml else 0.0
    return float(d), beta, sigma2


def marginal_relative(design: Any, factors: list[Array], R: Array) -> Array:
    """``R + sum Z Psi Z'`` of all rows; ``factors`` are raw relative factors."""
    V = R.copy()
    for block, L in zip(design.blocks, factors, strict=True):
        inside = block.columns @ (L @ L.T) @ block.columns.T
        V += inside * (block.codes[:, None] == block.codes[None])
    return V
