"""Workloads of generalized models: binary, counts, ordered grades; Laplace and quadrature."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import generators
from benchmarks.columns import Column
from benchmarks.generators import scaled
from benchmarks.models import Model, Term, generalized

Table = Callable[[float], dict[str, Column]]

_PERSONS = ("anger", "male", "scold", "shout", "self")
_SLOPE = (Term(("g",), ("x1",)),)
_INTERCEPT = (Term(("g",)),)


def binary_slopes(scale: float) -> dict[str, Column]:
    """100 000 rows in 2 000 groups of 50."""
    return generators.binary(
        scaled(100_000, scale, 1_000), scaled(2_000, scale, 20), 1, 51, slope=True
    )


def binary_row14(scale: float) -> dict[str, Column]:
    """200 000 rows in 10 000 groups of 20."""
    return generators.binary(
        scaled(200_000, scale, 1_000), scaled(10_000, scale, 50), 3, 52, slope=False
    )


def ordered_row16(scale: float) -> dict[str, Column]:
    """5 000 grades in 500 groups of 10."""
    return generators.grades(scaled(5_000, scale, 500), scaled(500, scale, 50), 53)


def crossed_counts(scale: float) -> dict[str, Column]:
    """20 000 counts of 500 users and 100 items."""
    return generators.counts(scaled(20_000, scale, 1_000), 500, 100, 54)


def _binary(points: int, slope: bool) -> Model:
    names = ("x1",) if slope else ("x1", "x2", "x3")
    return generalized("binomial", "y", names, _SLOPE if slope else _INTERCEPT, points)


def _grades(points: int) -> Model:
    return generalized("cumulative", "y", ("x1", "x2"), _INTERCEPT, points)


#: Name, title, model, table, target in seconds.
GENERALIZED: tuple[tuple[str, str, Model, Table, float | None], ...] = (
    ("verbagg", "VerbAgg, binary, 7 584 rows, 316 persons crossed with 24 items",
     generalized("binomial", "y", _PERSONS, (Term(("id",)), Term(("item",)))),
     generators.verbagg, 0.08),
    ("binary_slope", "binary, random slope, 100 000 rows, 2 000 groups, Laplace",
     _binary(1, True), binary_slopes, None),
    ("binary_slope_7x7", "the same, 7 x 7 quadrature points", _binary(7, True), binary_slopes,
     None),
    ("row14", "binary, random intercept, 200 000 rows, 10 000 groups, Laplace",
     _binary(1, False), binary_row14, 0.2),
    ("row14_7", "the same, 7 quadrature points", _binary(7, False), binary_row14, 0.3),
    ("row16", "cumulative logit, 5 000 rows, 500 groups, Laplace", _grades(1), ordered_row16, 0.1),
    ("row16_7", "the same, 7 quadrature points", _grades(7), ordered_row16, 0.2),
    ("grouseticks", "grouseticks, Poisson, 403 chicks, 118 broods, 63 locations",
     generalized("poisson", "ticks", ("y96", "y97", "height"),
                 (Term(("brood",)), Term(("chick",)), Term(("location",)))),
     generators.grouseticks, None),
    ("negative_binomial", "negative binomial, 20 000 rows, 500 users crossed with 100 items",
     generalized("negative_binomial", "y", ("x",), (Term(("user",)), Term(("item",)))),
     crossed_counts, None),
)  # fmt: skip
