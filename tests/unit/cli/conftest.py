from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    """A CSV of 20 schools with 10 rows each, two cells missing, and a column that is twice x."""
    rng = np.random.default_rng(7)
    school = np.repeat(np.arange(20), 10)
    x = rng.standard_normal(200)
    effects = rng.standard_normal((20, 2)) @ np.diag([1.5, 0.5])
    y = 3.0 + 2.0 * x + effects[school, 0] + effects[school, 1] * x + rng.standard_normal(200)
    frame = pd.DataFrame(
        {"y": y, "x": x, "twice": 2 * x, "school": school, "w": rng.uniform(0.5, 2.0, 200)}
    )
    frame.loc[[3, 50], "x"] = np.nan
    path = tmp_path_factory.mktemp("cli") / "schools.csv"
    frame.to_csv(path, index=False)
    return path
