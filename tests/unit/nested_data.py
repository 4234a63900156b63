"""Simulated rows in classes in schools, with a known indirect effect at every level."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Indirect effects of x on y through m: within, between classes, between schools.
INDIRECT = {"within": 0.4 * 0.3, "cls": 0.3 * 0.5, "school": 0.5 * 0.6}
MEDIATION = """
level: within
  m ~ a1*x
  y ~ b1*m + x
level: cls
  m ~ a2*x
  y ~ b2*m + x
level: school
  m ~ a3*x
  y ~ b3*m + x
i1 := a1 * b1
i2 := a2 * b2
i3 := a3 * b3
"""
CLUSTER = ["cls", "school"]


def nested_rows(seed, *, schools=30, classes=5, rows=6, holes=0.0, slope=False) -> pd.DataFrame:
    """Columns cls, school, x, m, y (level 1), z (level 2), w (level 3); unbalanced."""
    rng = np.random.default_rng(seed)
    per_school = rng.integers(max(classes // 2, 1), classes * 3 // 2 + 1, schools)
    J = int(per_school.sum())
    of = np.repeat(np.arange(schools), per_school)
    per_class = rng.integers(max(rows // 2, 2), rows * 3 // 2 + 1, J)
    c = np.repeat(np.arange(J), per_class)
    s, n = of[c], len(c)
    w = rng.normal(size=schools)
    z = rng.normal(size=J) + (0.5 * w + rng.normal(0.0, 0.4, schools))[of]
    x3, x2, x1 = rng.normal(0, 0.7, schools), rng.normal(0, 0.7, J), rng.normal(size=n)
    m3 = 0.5 * x3 + 0.3 * w + rng.normal(0, 0.5, schools)
    m2 = 0.3 * x2 + 0.2 * z + rng.normal(0, 0.6, J)
    m1 = 0.4 * x1 + rng.normal(0, 0.8, n)
    y3 = 0.6 * m3 + 0.1 * x3 + rng.normal(0, 0.5, schools)
    y2 = 0.5 * m2 + 0.2 * x2 + rng.normal(0, 0.5, J)
    y1 = 0.3 * m1 + 0.2 * x1 + rng.normal(0, 0.9, n)
    out = pd.DataFrame(
        {
            "cls": c,
            "school": s,
            "x": 1.0 + x1 + x2[c] + x3[s],
            "m": 2.0 + m1 + m2[c] + m3[s],
            "y": 3.0 + y1 + y2[c] + y3[s],
            "z": z[c],
            "w": w[s],
        }
    )
    if slope:
        tilt = rng.normal(0, 0.3, schools)[s] + rng.normal(0, 0.4, J)[c]
        out["y"] += tilt * out["m"]
    if holes:
        for name in "xmy":
            out.loc[rng.random(n) < holes, name] = np.nan
        out.loc[np.isin(c, np.flatnonzero(rng.random(J) < holes)), "z"] = np.nan
        out.loc[np.isin(s, np.flatnonzero(rng.random(schools) < holes)), "w"] = np.nan
    return out
