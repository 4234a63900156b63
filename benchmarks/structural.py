"""Workloads of structural models: mediation, factors, missing values, random slopes, three levels.

The tables and the models; ``level: 1`` and so on are read by lavaan and by `multilevel`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import generators
from benchmarks.columns import Column
from benchmarks.generators import scaled
from benchmarks.models import Model, Structural, structural_model

Table = Callable[[float], dict[str, Column]]

_LAVAAN = ("lavaan", "lavaan_plain")

_MEDIATION = """
level: 1
  y2 ~ b*y1 + x1
  y1 ~ a*x1
level: 2
  y2 ~ bb*y1 + w1
  y1 ~ ab*w1
  within := a*b
  between := ab*bb
"""
_FACTOR = """
level: 1
  f =~ y1 + y2 + y3
  g =~ y4 + y5 + y6
  g ~ f + x1 + x2 + x3
  f ~ x1 + x2 + x3
level: 2
  fb =~ y1 + y2 + y3
  gb =~ y4 + y5 + y6
  gb ~ fb
"""
_SLOPES = """
level: 1
  a | m ~ x
  b | y ~ m
  y ~ x
level: 2
  m ~~ y
  a ~ 1
  b ~ 1
"""
_THREE = """
level: 1
  m ~ a1*x
  y ~ b1*m + x
level: 2
  m ~~ y
level: 3
  m ~~ y
"""
_ITEMS = ("y1", "y2", "y3", "y4", "y5", "y6")


def demo_twolevel(scale: float) -> dict[str, Column]:
    """The table that lavaan ships, 2 500 rows in 200 clusters; some of its clusters when scaled."""
    return generators.demo_twolevel(scaled(200, scale, 40))


def demo_holes(scale: float) -> dict[str, Column]:
    """The same with a tenth of the values of y1 to y6 missing completely at random."""
    table = demo_twolevel(scale)
    rng = np.random.default_rng(71)
    for name in _ITEMS:
        table[name] = np.where(rng.random(len(table[name])) < 0.1, np.nan, table[name])
    return table


def many_clusters(scale: float) -> dict[str, Column]:
    """10 000 rows in 1 000 clusters."""
    J, size = scaled(1_000, scale, 60), 10
    rng = np.random.default_rng(72)
    cluster = np.repeat(np.arange(J), size)
    w1 = rng.standard_normal(J)
    x1 = rng.standard_normal(J * size)
    u1 = 0.2 * w1 + 0.9 * rng.standard_normal(J)
    u2 = 0.6 * u1 + 0.1 * w1 + 0.5 * rng.standard_normal(J)
    e1 = 0.5 * x1 + 1.2 * rng.standard_normal(J * size)
    y2 = 0.4 * e1 + 0.2 * x1 + u2[cluster] + rng.standard_normal(J * size)
    return {"y1": e1 + u1[cluster], "y2": y2, "x1": x1, "w1": w1[cluster], "cluster": cluster}


def random_slopes(scale: float) -> dict[str, Column]:
    """2 000 rows in 100 clusters of 20; both slopes of the mediation vary and covary."""
    J, size = scaled(100, scale, 60), 20
    rng = np.random.default_rng(73)
    cluster = np.repeat(np.arange(J), size)
    half = np.array([[0.6, 0, 0, 0], [0.2, 0.6, 0, 0], [0.05, 0.0, 0.3, 0], [0.0, 0.05, 0.1, 0.3]])
    own = (rng.standard_normal((J, 4)) @ half.T)[cluster]
    x = rng.standard_normal(J * size)
    m = 0.5 + own[:, 0] + (0.4 + own[:, 2]) * x + rng.standard_normal(J * size)
    y = 0.3 + own[:, 1] + (0.5 + own[:, 3]) * m + 0.2 * x + 0.8 * rng.standard_normal(J * size)
    return {"y": y, "m": m, "x": x, "cluster": cluster}


def three_levels(scale: float) -> dict[str, Column]:
    """10 000 rows in 1 000 classes in 100 schools."""
    schools, classes, size = scaled(100, scale, 20), 10, 10
    rng = np.random.default_rng(74)
    room = np.repeat(np.arange(schools * classes), size)
    school = room // classes

    def shared() -> Column:
        return (
            0.4 * rng.standard_normal(schools)[school]
            + 0.5 * rng.standard_normal(schools * classes)[room]
        )

    x = rng.standard_normal(len(room))
    m = 0.4 * x + shared() + rng.standard_normal(len(room))
    y = 0.5 * m + 0.1 * x + shared() + rng.standard_normal(len(room))
    return {"y": y, "m": m, "x": x, "class": room, "school": school}


def _two(text: str, outcomes: tuple[str, ...], given: tuple[str, ...]) -> Model:
    return structural_model(Structural(text, ("cluster",), outcomes, given, _LAVAAN))


_PATHS = _two(_MEDIATION, ("y1", "y2"), ("x1", "w1"))
_FACTORS = _two(_FACTOR, _ITEMS, ("x1", "x2", "x3"))
_VARYING = structural_model(
    Structural(_SLOPES, ("cluster",), ("y", "m"), ("x",), ("nlme", "glmmTMB"))
)
_NESTED = structural_model(Structural(_THREE, ("class", "school"), ("y", "m"), ("x",)))

#: Name, title, model, table, target in seconds.
STRUCTURAL: tuple[tuple[str, str, Model, Table, float | None], ...] = (
    ("mediation_demo", "mediation at two levels, Demo.twolevel: 2 500 rows, 200 clusters",
     _PATHS, demo_twolevel, None),
    ("mediation_1k", "the same model, 10 000 rows, 1 000 clusters", _PATHS, many_clusters, None),
    ("row18", "two factors of three items at each level and regressions, 2 500 rows, 9 variables",
     _FACTORS, demo_twolevel, 0.05),
    ("row18_holes", "the same with a tenth of the items missing", _FACTORS, demo_holes, 0.3),
    ("mediation_slopes", "mediation with random slopes, 100 clusters of 20", _VARYING,
     random_slopes, 2.0),
    ("mediation_three", "mediation at three levels, 10 000 rows, 1 000 classes, 100 schools",
     _NESTED, three_levels, None),
)  # fmt: skip
