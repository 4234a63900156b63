"""Simulated location-scale data with known parameters, and how well these are recovered.

``python -m tests.support.location_scale`` makes the table of the docs page
(tests/unit/api/location_scale_recovery.csv): 200 clusters of 20 rows, correlation 0.5.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import multilevel as mlm

Array = NDArray[np.float64]

TABLE = Path(__file__).parents[1] / "unit" / "api" / "location_scale_recovery.csv"
CLUSTERS, SIZE, CORRELATION, SEED, SAMPLES = 200, 20, 0.5, 20_261_122, 600

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


@dataclass(frozen=True)
class Recovery:
    """One parameter over all samples: mean and SD of its estimates, mean standard error, and the
    share of 95% Wald intervals (``confint()``) that hold the truth."""

    parameter: str
    truth: float
    mean: float
    sd: float
    mean_std_error: float
    covered: float
    samples: int


def truths() -> dict[str, float]:
    """The parameters in the order of ``confint()``."""
    b, t = TRUE["beta"], TRUE["tau"]
    return {
        "mean: (Intercept)": b[0], "mean: x": b[1], "mean: w": b[2],
        "log variance: (Intercept)": t[0], "log variance: x": t[1], "log variance: w": t[2],
        "SD of location effects": TRUE["sd_location"], "SD of scale effects": TRUE["sd_scale"],
        "correlation of location and scale": CORRELATION,
    }  # fmt: skip


def recover(samples: int, seed: int) -> list[Recovery]:
    """Draw, fit and count."""
    rng = np.random.default_rng(seed)
    found = np.empty((samples, len(truths()), 4))
    for r in range(samples):
        data = simulate(CLUSTERS, SIZE, CORRELATION, rng)
        m = mlm.fit("y ~ x + w + (1 | g)", data, scale="~ x + w + (1 | g)", accuracy="none")
        table = m.confint()
        found[r] = table[["estimate", "std_error", "conf_low", "conf_high"]].to_numpy()
    out = []
    for k, (name, truth) in enumerate(truths().items()):
        estimate, error, low, high = found[:, k].T
        out.append(
            Recovery(
                name, truth, float(estimate.mean()), float(estimate.std(ddof=1)),
                float(error.mean()), float(np.mean((low <= truth) & (truth <= high))), samples,
            )
        )  # fmt: skip
    return out


def stored() -> list[Recovery]:
    """The table of the docs page."""
    with TABLE.open(newline="") as file:
        return [
            Recovery(
                row["parameter"], *(float(row[f.name]) for f in fields(Recovery)[1:6]),
                int(row["samples"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def main() -> None:
    """Write the table."""
    rows = recover(SAMPLES, SEED)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Recovery)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v
                             for k, v in asdict(row).items()})  # fmt: skip


if __name__ == "__main__":
    main()
