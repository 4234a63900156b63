"""Bias of variances by ML and by REML-type estimation with few clusters, truth known.

``python -m tests.support.location_scale_reml`` prints the table of docs/location-scale.md.
Samples whose optimum by ML lies on the boundary have no REML-type fit; they are counted and left
out of both columns.
"""

from __future__ import annotations

import sys

import numpy as np

import multilevel as mlm
from multilevel.errors import MultilevelError

CLUSTERS, ROWS = 12, 20
TRUTH = {"SD of location effects": 1.0, "SD of scale effects": 0.6}


def draw(seed: int) -> dict[str, np.ndarray]:
    """Rows of one sample: three predictors of the clusters' means."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    w = rng.normal(size=(3, CLUSTERS))
    x = rng.normal(size=len(g))
    b, omega = rng.normal(size=(2, CLUSTERS)) * np.array([[1.0], [0.6]])
    y = 0.5 * x + 0.3 * w.sum(axis=0)[g] + b[g]
    y = y + np.exp((0.2 * x + omega[g]) / 2.0) * rng.normal(size=len(g))
    return {"y": y, "x": x, "g": g, **{f"w{k}": w[k][g] for k in range(3)}}


def estimates(seed: int) -> np.ndarray | None:
    """SDs (2 methods, 2 effects); None where the optimum lies on the boundary."""
    words = ("y ~ x + w0 + w1 + w2 + (1 | g)", draw(seed))
    out = []
    try:
        for method in ("ml", "reml"):
            found = mlm.fit(
                *words, scale="~ x + (1 || g)", method=method, accuracy="none", advice=False
            )
            out.append(np.sqrt(np.diag(found.random_covariance["g"])))
    except MultilevelError:
        return None
    return np.array(out)


def simulate(n: int, first: int = 1) -> tuple[np.ndarray, int]:
    """Estimates (used, 2, 2) of ``n`` samples, and how many had none."""
    found = [estimates(seed) for seed in range(first, first + n)]
    used = [one for one in found if one is not None]
    return np.array(used), n - len(used)


if __name__ == "__main__":
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    used, lost = simulate(samples)
    mean = used.mean(axis=0)
    error = used.std(axis=0) / np.sqrt(len(used))
    lines = [f"{len(used)} samples used, {lost} on the boundary", "| | truth | ML | REML-type |"]
    for k, (name, truth) in enumerate(TRUTH.items()):
        cells = [f"{mean[m, k]:.3f} ({error[m, k]:.3f})" for m in (0, 1)]
        lines.append(f"| {name} | {truth} | {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n")
