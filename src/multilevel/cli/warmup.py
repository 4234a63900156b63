"""Compile the numeric kernels by fitting made-up tables of every kind."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from multilevel.api.fit import fit
from multilevel.estimate.choose import EngineName
from multilevel.infer.bootstrap import BATCHED_FROM
from multilevel.model.specification import Method

_METHODS: tuple[Method, ...] = ("reml", "ml")

#: Kind, formula, engine. Small crossed tables need no kernels, so that engines are named here. The
#: iterative engine is left out: it runs where one evaluation takes seconds, and compiles then.
_KINDS: tuple[tuple[str, str, EngineName], ...] = (
    ("one factor", "y ~ x + (1 | school)", "nested"),
    ("random slopes", "y ~ x + (x | school)", "nested"),
    ("nested factors", "y ~ x + (x | school) + (1 | district)", "nested"),
    ("crossed factors, dense", "y ~ x + (1 | school) + (x | item)", "dense"),
    ("crossed factors, sparse", "y ~ x + (1 | school) + (x | item)", "sparse"),
)

#: Outcome, family, random part, points. Tables large enough for compiled kernels.
_OUTCOMES: tuple[tuple[str, str, str, int], ...] = (
    ("binary", "binomial", "(1 | school)", 3),
    ("binary", "binomial", "(x | school)", 3),
    ("binary", "binomial", "(1 | school) + (1 | district)", 3),
    ("binary", "binomial", "(1 | school) + (1 | item)", 1),
    ("binary", "binomial", "(x | school) + (1 | item)", 1),
    ("count", "poisson", "(1 | school)", 1),
    ("count", "negative_binomial", "(1 | school)", 1),
    ("grade", "cumulative", "(1 | school)", 3),
)
_OUTCOME_SCHOOLS = 1300  # times 8 rows: more than engines compute without compilation


def table(n_schools: int = 60, n_items: int = 8) -> pd.DataFrame:
    """Return a small table with an outcome, a predictor, nested and crossed ids (no randomness)."""
    school = np.repeat(np.arange(n_schools), n_items)
    item = np.tile(np.arange(n_items), n_schools)
    i = np.arange(school.size, dtype=float)
    x = np.sin(1.3 * i) + np.cos(0.7 * i)
    noise = np.sin(2.1 * i**1.1) + np.cos(3.7 * i)
    y = 1.0 + x * (0.5 + 0.3 * np.sin(2.0 * school)) + np.cos(5.0 * school) + np.sin(item) + noise
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "school": school,
            "district": school // 6,
            "item": item,
            "binary": (y > 1.0).astype(float),
            "count": np.floor(np.exp(0.3 * y)),
            "grade": np.digitize(y, [-0.5, 2.0]),
        }
    )


def warm_up() -> list[tuple[str, float]]:
    """Fit every kind of model once, and a bootstrap; return ``(kind, seconds)``."""
    data, out = table(), []
    for kind, formula, engine in _KINDS:
        start = time.perf_counter()
        for method in _METHODS:
            fit(formula, data, method=method, engine=engine)
        out.append((kind, time.perf_counter() - start))
    start = time.perf_counter()
    fit("y ~ x + (1 | school)", data).bootstrap(BATCHED_FROM)
    out.append(("bootstrap", time.perf_counter() - start))
    large = table(_OUTCOME_SCHOOLS)
    for outcome, family, random, points in _OUTCOMES:
        start = time.perf_counter()
        fit(f"{outcome} ~ x + {random}", large, family=family, n_quad=points)
        out.append((f"{family} {random}", time.perf_counter() - start))
    return out
