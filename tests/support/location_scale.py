"""Simulated location-scale data with known parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Parameters of ``simulate``: means, log residual variance, SDs of the effects.
TRUE = {"beta": (1.0, 0.5, 0.4), "tau": (0.2, 0.3, 0.25), "sd_location": 1.0, "sd_scale": 0.5}


def simulate(
    n_clusters: int, size: int, correlation: float, rng: np.random.Generator
) -> dict[str, Any]:
    """``y`` with predictors ``x`` (level 1), ``w`` (level 2) and clusters ``g``."""
    g = np.repeat(np.arange(n_clusters), size)
    x = rng.standard_normal(n_clusters * size)
    w = np.repeat(rng.standard_normal(n_clusters), size)
    z = rng.standard_normal((n_clusters, 2))
    u = TRUE["sd_location"] * z[:, 0]
    omega = correlation * z[:, 0] + np.sqrt(1.0 - correlation**2) * z[:, 1]
    b, t = TRUE["beta"], TRUE["tau"]
    log_variance = t[0] + t[1] * x + t[2] * w + TRUE["sd_scale"] * omega[g]
    mean = b[0] + b[1] * x + b[2] * w + u[g]
    y = mean + np.exp(log_variance / 2.0) * rng.standard_normal(len(g))
    return {"y": y, "x": x, "w": w, "g": g}
