"""Data of every workload: seeded simulations, and three small real tables of the test suite.

Simulated ids are compact integers 0, 1, ...; rows come in random order, as in real extracts,
unless a workload says otherwise. ``scale`` multiplies rows and levels for trial runs.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.columns import Column

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DATA = Path(__file__).resolve().parents[1] / "tests" / "data"


def scaled(count: int, scale: float, least: int) -> int:
    """``count`` times ``scale``, never under ``least``."""
    return max(least, round(count * scale))


def _group_rows(rng: np.random.Generator, n: int, n_groups: int, spread: float) -> Ints:
    """Group of each row, shuffled: lognormal sizes with log-sd ``spread``, no group empty."""
    weight = rng.lognormal(0.0, spread, n_groups)
    extra = rng.multinomial(n - n_groups, weight / weight.sum())
    rows = np.repeat(np.arange(n_groups), extra + 1)
    return rng.permutation(rows)


def two_level(
    n: int, n_groups: int, n_fixed: int, seed: int, *, spread: float = 0.5
) -> dict[str, Column]:
    """``y`` with ``n_fixed`` predictors ``x1..`` and a random slope of ``x1`` by ``g``.

    G = [[1, .3], [.3, .5]], residual variance 4.
    """
    rng = np.random.default_rng(seed)
    group = _group_rows(rng, n, n_groups, spread)
    X = rng.standard_normal((n, n_fixed))
    effects = rng.standard_normal((n_groups, 2)) @ np.linalg.cholesky([[1.0, 0.3], [0.3, 0.5]]).T
    beta = np.linspace(0.5, -0.5, n_fixed)
    y = 2.0 + X @ beta + effects[group, 0] + effects[group, 1] * X[:, 0]
    y += 2.0 * rng.standard_normal(n)
    columns: dict[str, Column] = {"y": y}
    columns.update({f"x{k + 1}": X[:, k].copy() for k in range(n_fixed)})
    columns["g"] = group
    return columns


def three_level(n: int, n_schools: int, n_leas: int, seed: int) -> dict[str, Column]:
    """The shape of Chem97: a score 0, 2, ..., 10, pupils in schools in authorities."""
    rng = np.random.default_rng(seed)
    lea_of_school = _group_rows(rng, n_schools, n_leas, 0.7)
    school = _group_rows(rng, n, n_schools, 0.8)
    lea = lea_of_school[school]
    x = rng.normal(0.0, 0.84, n)
    latent = 5.8 + 2.5 * x + 1.0 * rng.standard_normal(n_schools)[school]
    latent += 0.35 * rng.standard_normal(n_leas)[lea] + 2.25 * rng.standard_normal(n)
    score = np.clip(2.0 * np.round(latent / 2.0), 0.0, 10.0)
    return {"y": score, "x": x, "lea": lea, "school": school}


def _pareto_weights(rng: np.random.Generator, n_levels: int, shape: float) -> Floats:
    weights = rng.pareto(shape, n_levels) + 1.0
    return np.asarray(weights / weights.sum())


def _distinct_pairs(
    rng: np.random.Generator, n: int, left: Floats, right: Floats
) -> tuple[Ints, Ints]:
    """``n`` different (left, right) pairs, every level used, drawn near-proportionally."""
    J, K = len(left), len(right)
    longest = max(J, K)
    first = rng.permutation(longest) % J
    second = rng.permutation(longest) % K
    keys = np.unique(first * K + second)
    while len(keys) < n:
        missing = n - len(keys)
        draw = rng.choice(J, missing, p=left) * K + rng.choice(K, missing, p=right)
        keys = np.unique(np.concatenate([keys, draw]))
    keys = rng.permutation(keys)[:n]
    return keys // K, keys % K


def crossed(n: int, n_users: int, n_items: int, shape: float, seed: int) -> dict[str, Column]:
    """Ratings of items by users, both with Pareto(``shape``) activity; no pair twice."""
    rng = np.random.default_rng(seed)
    user, item = _distinct_pairs(
        rng, n, _pareto_weights(rng, n_users, shape), _pareto_weights(rng, n_items, shape)
    )
    return _ratings(rng, user, item, n_users, n_items)


def movielens_shaped(n: int, n_users: int, n_items: int, seed: int) -> dict[str, Column]:
    """MovieLens-1M's shape: lognormal activity of users and popularity of films."""
    rng = np.random.default_rng(seed)
    users = rng.lognormal(0.0, 1.0, n_users) + 0.12
    items = rng.lognormal(0.0, 1.2, n_items)
    user, item = _distinct_pairs(rng, n, users / users.sum(), items / items.sum())
    return _ratings(rng, user, item, n_users, n_items)


def _ratings(
    rng: np.random.Generator, user: Ints, item: Ints, n_users: int, n_items: int
) -> dict[str, Column]:
    n = len(user)
    x = rng.standard_normal(n)
    y = 3.5 + 0.1 * x + 0.45 * rng.standard_normal(n_users)[user]
    y += 0.6 * rng.standard_normal(n_items)[item] + 0.9 * rng.standard_normal(n)
    return {"y": y, "x": x, "user": user, "item": item}


def _table(name: str) -> pd.DataFrame:
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        raise FileNotFoundError(f"this workload needs {path.name} in tests/data; it is not there")
    with gzip.open(path, "rt") as stream:
        return pd.read_csv(stream)


def _some_rows(table: pd.DataFrame, scale: float) -> pd.DataFrame:
    if scale >= 1.0:
        return table
    n = scaled(len(table), scale, 300)
    return table.sample(n=min(n, len(table)), random_state=1).sort_index()


def _ids(values: pd.Series) -> Column:
    codes, _ = pd.factorize(values, sort=True)
    return np.asarray(codes)


def diary(n_subjects: int, n_times: int, seed: int, missed: float = 0.0) -> dict[str, Column]:
    """Repeated measures: an intercept by subject (sd 0.8) and residuals AR(1) with 0.5, variance 1.

    ``x`` differs between rows, ``w`` between subjects; ``missed`` is the share of rows left out.
    """
    rng = np.random.default_rng(seed)
    e = rng.standard_normal((n_subjects, n_times))
    for t in range(1, n_times):
        e[:, t] = 0.5 * e[:, t - 1] + np.sqrt(0.75) * e[:, t]
    x = rng.standard_normal((n_subjects, n_times))
    w = rng.standard_normal((n_subjects, 1)) + np.zeros_like(x)
    time = np.arange(n_times) + np.zeros((n_subjects, 1), dtype=int)
    y = 1.0 + 0.3 * x + 0.2 * w + 0.1 * time + 0.8 * rng.standard_normal((n_subjects, 1)) + e
    subject = np.arange(n_subjects)[:, None] + np.zeros_like(time)
    columns = {"y": y, "x": x, "w": w, "time": time, "subject": subject}
    kept = rng.random(e.size) >= missed
    return {name: values.ravel()[kept] for name, values in columns.items()}


def trial(n_patients: int, n_visits: int, seed: int) -> dict[str, Column]:
    """Two arms, a baseline, every patient at every visit; free covariances between visits.

    Visits and their products with the arm come as columns of zeros and ones.
    """
    rng = np.random.default_rng(seed)
    mix = 0.4 * rng.standard_normal((n_visits, n_visits)) + np.eye(n_visits)
    base = rng.standard_normal((n_patients, 1)) + np.zeros((1, n_visits))
    visit = np.arange(n_visits) + np.zeros((n_patients, 1), dtype=int)
    arm = (np.arange(n_patients) % 2)[:, None] + np.zeros_like(visit)
    y = 0.5 * base + 0.3 * visit * arm + rng.standard_normal((n_patients, n_visits)) @ mix.T
    columns = {"y": y.ravel(), "base": base.ravel(), "arm": arm.ravel().astype(float)}
    for k in range(1, n_visits):
        at = (visit == k).ravel().astype(float)
        columns[f"v{k}"], columns[f"arm_v{k}"] = at, at * columns["arm"]
    patient = np.arange(n_patients)[:, None] + np.zeros_like(visit)
    return {**columns, "visit": visit.ravel(), "patient": patient.ravel()}


def demo_twolevel(n_clusters: int) -> dict[str, Column]:
    """lavaan's Demo.twolevel: y1 to y6, x1 to x3 (rows), w1, w2 (clusters); its first clusters."""
    table = _table("Demo.twolevel")
    cluster = _ids(table["cluster"])
    kept = cluster < n_clusters
    columns = {name: table[name].to_numpy(float)[kept] for name in table.columns[:-1]}
    return {**columns, "cluster": cluster[kept]}


def sleepstudy() -> dict[str, Column]:
    """The sleepstudy table, with a second response for refits (noise of sd 20 added)."""
    table = _table("sleepstudy")
    y = table["Reaction"].to_numpy(float)
    noise = np.random.default_rng(7).normal(0.0, 20.0, len(y))
    return {
        "Reaction": y,
        "Reaction_new": y + noise,
        "Days": table["Days"].to_numpy(float),
        "Subject": _ids(table["Subject"]),
    }


def insteval(scale: float) -> dict[str, Column]:
    """InstEval: 73 421 ratings of lecturers (d) by students (s) in departments (dept)."""
    table = _some_rows(_table("InstEval"), scale)
    return {
        "y": table["y"].to_numpy(float),
        "service": table["service"].to_numpy(float),
        **{name: _ids(table[name]) for name in ("s", "d", "dept")},
    }


def hsb(scale: float) -> dict[str, Column]:
    """High School & Beyond: 7 185 pupils in 160 schools."""
    table = _some_rows(_table("Hsb82"), scale)
    return {
        "mAch": table["mAch"].to_numpy(float),
        "ses": table["ses"].to_numpy(float),
        "school": _ids(table["school"]),
    }


def verbagg(scale: float) -> dict[str, Column]:
    """VerbAgg: 316 persons answer 24 items, yes or no; predictors of persons and items as 0/1."""
    table = _some_rows(_table("VerbAgg"), scale)
    return {
        "y": (table["r2"] == "Y").to_numpy(float),
        "anger": table["Anger"].to_numpy(float),
        "male": (table["Gender"] == "M").to_numpy(float),
        "scold": (table["btype"] == "scold").to_numpy(float),
        "shout": (table["btype"] == "shout").to_numpy(float),
        "self": (table["situ"] == "self").to_numpy(float),
        "id": _ids(table["id"]),
        "item": _ids(table["item"]),
    }


def grouseticks(scale: float) -> dict[str, Column]:
    """Ticks on 403 grouse chicks in broods in locations; the whole table at every scale."""
    del scale
    table = _table("grouseticks")
    return {
        "ticks": table["TICKS"].to_numpy(float),
        "y96": (table["YEAR"] == 96).to_numpy(float),
        "y97": (table["YEAR"] == 97).to_numpy(float),
        "height": ((table["HEIGHT"] - table["HEIGHT"].mean()) / 100).to_numpy(float),
        "chick": _ids(table["INDEX"]),
        "brood": _ids(table["BROOD"]),
        "location": _ids(table["LOCATION"]),
    }


def binary(n: int, n_groups: int, n_fixed: int, seed: int, *, slope: bool) -> dict[str, Column]:
    """0/1 responses with predictors ``x1..``; effects of ``g``: intercept, maybe slope of ``x1``.

    G = [[1, .3], [.3, .5]], or a variance of 1.
    """
    rng = np.random.default_rng(seed)
    group = _group_rows(rng, n, n_groups, 0.0)
    X = rng.standard_normal((n, n_fixed))
    effects = rng.standard_normal((n_groups, 2)) @ np.linalg.cholesky([[1.0, 0.3], [0.3, 0.5]]).T
    eta = -0.5 + X @ np.linspace(0.5, -0.5, n_fixed) + effects[group, 0]
    if slope:
        eta += effects[group, 1] * X[:, 0]
    columns: dict[str, Column] = {"y": (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(float)}
    columns.update({f"x{k + 1}": X[:, k].copy() for k in range(n_fixed)})
    columns["g"] = group
    return columns


def grades(n: int, n_groups: int, seed: int) -> dict[str, Column]:
    """Four ordered grades 0..3, two predictors, intercepts of ``g`` with variance 1 (logit)."""
    rng = np.random.default_rng(seed)
    group = _group_rows(rng, n, n_groups, 0.0)
    X = rng.standard_normal((n, 2))
    latent = X @ [0.5, -0.3] + rng.standard_normal(n_groups)[group] + rng.logistic(size=n)
    grade = np.digitize(latent, [-1.5, 0.0, 1.5]).astype(float)
    return {"y": grade, "x1": X[:, 0].copy(), "x2": X[:, 1].copy(), "g": group}


def counts(n: int, n_users: int, n_items: int, seed: int) -> dict[str, Column]:
    """Negative binomial counts (alpha 0.5) of users crossed with items."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, n_users, n), rng.integers(0, n_items, n)
    x = rng.standard_normal(n)
    eta = 0.5 + 0.3 * x + 0.5 * rng.standard_normal(n_users)[user]
    mu = np.exp(eta + 0.4 * rng.standard_normal(n_items)[item])
    y = rng.negative_binomial(2.0, 2.0 / (2.0 + mu)).astype(float)
    return {"y": y, "x": x, "user": _ids(pd.Series(user)), "item": _ids(pd.Series(item))}
