"""Workloads about variances: scale effects, related levels, effects that change over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.columns import Column
from benchmarks.generators import scaled
from benchmarks.models import Model, Relation, location_scale, occasions, related

Table = Callable[[float], dict[str, Column]]

_SPREAD = location_scale("y", ("x",), ("x",), "g", 11)
_GAMMA = replace(_SPREAD, family="location_scale_gamma")


def _location_scale(n_groups: int, seed: int, family: str) -> dict[str, Column]:
    """20 rows a group: location sd 0.7 (gamma 0.5), scale sd 0.4, correlation 0.5."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), 20)
    x = rng.standard_normal(len(g))
    first = rng.standard_normal(n_groups)
    second = 0.5 * first + np.sqrt(0.75) * rng.standard_normal(n_groups)
    if family == "gamma":
        phi = np.exp(-0.5 + 0.2 * x + 0.4 * second[g])
        y = rng.gamma(1.0 / phi) * phi * np.exp(1.0 + 0.3 * x + 0.5 * first[g])
    else:
        sd = np.exp(0.5 * (0.2 + 0.3 * x + 0.4 * second[g]))
        y = 1.0 + 0.5 * x + 0.7 * first[g] + sd * rng.standard_normal(len(g))
    return {"y": y, "x": x, "g": g}


def spread_1k(scale: float) -> dict[str, Column]:
    """20 000 rows in 1 000 groups."""
    return _location_scale(scaled(1_000, scale, 40), 81, "gaussian")


def spread_row21(scale: float) -> dict[str, Column]:
    """10 000 rows in 500 groups."""
    return _location_scale(scaled(500, scale, 40), 82, "gaussian")


def spread_gamma(scale: float) -> dict[str, Column]:
    """20 000 positive values in 1 000 groups."""
    return _location_scale(scaled(1_000, scale, 40), 83, "gamma")


def schools_mm(scale: float) -> dict[str, Column]:
    """50 000 rows, 2 000 schools; two in five pupils were in a second one for part of the time."""
    n, J = scaled(50_000, scale, 600), scaled(2_000, scale, 30)
    rng = np.random.default_rng(84)
    first = rng.permutation(np.arange(n) % J)
    second = (first + rng.integers(1, J, n)) % J
    share = np.where(rng.random(n) < 0.4, rng.uniform(0.2, 0.8, n), 1.0)
    x, u = rng.standard_normal(n), 0.6 * rng.standard_normal(J)
    y = 1.0 + 0.3 * x + share * u[first] + (1 - share) * u[second] + rng.standard_normal(n)
    return {"y": y, "x": x, "school1": first, "school2": second, "w1": share, "w2": 1.0 - share}


def animals(scale: float) -> dict[str, Column]:
    """20 000 records of 10 000 animals in five generations; a row names its animal's parents.

    ``mendelian``: variance of the animal's value given its parents', for programs that are told.
    """
    size = scaled(2_000, scale, 40)
    rng = np.random.default_rng(85)
    J = 5 * size
    parents = np.full((J, 2), -1)
    # kinship of the animals of one generation: enough to know inbreeding of the next
    kinship = np.eye(size)
    mendelian = np.ones(J)
    value = rng.standard_normal(J)
    for generation in range(1, 5):
        before = (generation - 1) * size
        here = np.arange(generation * size, (generation + 1) * size)
        sires = rng.integers(0, max(2, size // 50), size)
        dams = max(2, size // 50) + rng.integers(0, max(2, size // 5), size)
        parents[here] = before + np.column_stack([sires, dams])
        own = np.diag(kinship)
        mendelian[here] = 1.0 - 0.25 * (own[sires] + own[dams])
        inbred = 0.5 * kinship[sires, dams]
        paths = kinship[sires] + kinship[dams]
        kinship = 0.25 * (paths[:, sires] + paths[:, dams])
        np.fill_diagonal(kinship, 1.0 + inbred)
        value[here] = (
            0.5 * value[parents[here]].sum(axis=1) + np.sqrt(mendelian[here]) * value[here]
        )
    animal = rng.permutation(np.repeat(np.arange(J), 2))
    parents += 1
    x = rng.standard_normal(2 * J)
    y = 2.0 + 0.3 * x + 0.7 * value[animal] + rng.standard_normal(2 * J)
    return {
        "y": y, "x": x, "animal": animal + 1, "sire": parents[animal, 0], "dam": parents[animal, 1],
        "mendelian": mendelian[animal],
    }  # fmt: skip


def drift(scale: float) -> dict[str, Column]:
    """20 000 rows: 1 000 persons, ten days, two rows a day; what drifts carries over by 0.6."""
    persons, days = scaled(1_000, scale, 40), 10
    rng = np.random.default_rng(86)
    mood = rng.standard_normal((persons, days))
    for k in range(1, days):
        mood[:, k] = 0.6 * mood[:, k - 1] + 0.8 * mood[:, k]
    person = np.repeat(np.arange(persons), 2 * days)
    day = np.tile(np.repeat(np.arange(days), 2), persons)
    x = rng.standard_normal(len(person))
    y = 1.0 + 0.3 * x + mood[person, day] + 0.7 * rng.standard_normal(len(person))
    return {"y": y, "x": x, "day": day, "person": person}


_MEMBERSHIP = related("y", ("x",), Relation("mm", ("school1", "school2"), ("w1", "w2")))
_PEDIGREE = related("y", ("x",), Relation("pedigree", ("animal",), ("sire", "dam")))

#: Name, title, model, table, target in seconds.
VARIANCE: tuple[tuple[str, str, Model, Table, float | None], ...] = (
    ("location_scale", "location and scale effects, 20 000 rows, 1 000 groups, 11 points", _SPREAD,
     spread_1k, 10.0),
    ("row21", "the same, 10 000 rows, 500 groups", _SPREAD, spread_row21, 0.5),
    ("location_scale_gamma", "the same for a gamma outcome, 20 000 rows, 1 000 groups, 11 x 11 "
     "points", _GAMMA, spread_gamma, 10.0),
    ("mm_50k", "multiple membership, 50 000 rows, 2 000 schools", _MEMBERSHIP, schools_mm, None),
    ("pedigree_10k", "pedigree of 10 000 animals, 20 000 records", _PEDIGREE, animals, None),
    ("ar1_effects", "effects of persons that drift with AR(1), 20 000 rows, 1 000 persons, 10 days",
     occasions("y", ("x",), "day", "person"), drift, None),
)  # fmt: skip
