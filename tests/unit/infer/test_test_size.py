"""The size of tests in small samples, by simulation with a fixed seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

N_SIM, CLUSTERS = 2000, 20


@pytest.mark.slow
def test_size_with_twenty_clusters():
    # Unbalanced clusters of 3 to 9 rows, ICC 0.33; a cluster-level predictor without effect.
    # The rates of one set of samples are compared with 5% plus and minus three standard errors.
    rng = np.random.default_rng(20_261_122)
    sizes = rng.integers(3, 10, CLUSTERS)
    g = np.repeat(np.arange(CLUSTERS), sizes)
    w = rng.standard_normal(CLUSTERS)
    data = pd.DataFrame({"g": g, "w": w[g], "x": rng.standard_normal(len(g))})
    data["y"] = rng.standard_normal(len(g))
    first = mlm.fit("y ~ w + x + (1 | g)", data)
    rejected = {"satterthwaite": 0, "kenward-roger": 0, "none": 0}
    for _ in range(N_SIM):
        y = np.sqrt(0.5) * rng.standard_normal(CLUSTERS)[g] + rng.standard_normal(len(g))
        m = first.refit(y)
        for df in rejected:
            rejected[df] += m.coefficients(df=df).loc[1, "p_value"] < 0.05
    error = 3 * np.sqrt(0.05 * 0.95 / N_SIM)
    assert abs(rejected["satterthwaite"] / N_SIM - 0.05) < error
    assert abs(rejected["kenward-roger"] / N_SIM - 0.05) < error
    # what the degrees of freedom are for: z tests reject too often
    assert rejected["none"] / N_SIM > 0.05 + error
