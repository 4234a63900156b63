"""Describe the design of a table: its groups, how they lie to each other, what varies where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import TableError
from multilevel.tables.columns import kind_of, plain_array
from multilevel.tables.description import (
    DesignDescription,
    FactorDescription,
    VariableDescription,
    Variation,
)
from multilevel.tables.levels import Codes, Levels
from multilevel.tables.levels import codes as number
from multilevel.tables.pairs import describe_pair
from multilevel.tables.table import Table, as_table
from multilevel.tables.variation import describe_numeric, describe_other

_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class _Factor:
    """A grouping factor on the rows with an outcome: (n,) codes, -1 where missing."""

    name: str
    codes: Codes
    levels: Levels
    n_groups: int


def describe_design(
    data: Any,
    outcome: str | None,
    clusters: Sequence[str],
    variables: Sequence[str] | None = None,
) -> DesignDescription:
    """Describe groups, pairs of groups and variables.

    Parameters
    ----------
    data : anything that holds columns (see `multilevel.Table`).
    outcome : column of the outcome; only rows where it is known count. ``None``: all rows.
    clusters : grouping factors: columns, ``"a:b"`` for combined ones, ``"a/b"`` for ``a`` and
        ``a:b``.
    variables : columns to describe besides the outcome; default all that are not clusters.

    Returns
    -------
    A `DesignDescription`. Nothing in it depends on the order of the rows, up to rounding.

    Raises
    ------
    TableError : if a name is not a column, or no row has an outcome.
    """
    table = as_table(data)
    names = _cluster_names(table, clusters)
    if outcome is not None:
        table.check([outcome], "to serve as outcome")
    if variables is None:
        variables = [name for name in table.columns if name not in names]
    table.check(list(variables))
    rows = _rows_with_outcome(table, outcome)
    factors = [_factor(table, name, rows) for name in names]
    wanted = dict.fromkeys([*([outcome] if outcome is not None else []), *variables])
    complete = np.ones(len(rows) if rows is not None else table.n_rows, dtype=bool)
    for factor in factors:
        complete &= factor.codes >= 0
    return DesignDescription(
        outcome=outcome,
        n_table=table.n_rows,
        n_rows=len(complete),
        n_rows_complete=int(complete.sum()),
        factors=tuple(_describe_factor(table, factor) for factor in factors),
        pairs=tuple(
            describe_pair(
                (one.name, two.name), one.codes, two.codes, (len(one.levels), len(two.levels))
            )
            for one, two in combinations(factors, 2)
        ),
        variables=tuple(_describe_variable(table, name, rows, factors) for name in wanted),
    )


def _cluster_names(table: Table, clusters: Sequence[str]) -> list[str]:
    """Return the factors, ``a/b`` expanded, each once and made of columns."""
    given = [clusters] if isinstance(clusters, str) else list(clusters)
    names: list[str] = []
    for one in given:
        if one in table.columns:
            names.append(one)
            continue
        parts = [[piece.strip() for piece in part.split(":")] for part in one.split("/")]
        for depth in range(1, len(parts) + 1):
            columns = [piece for part in parts[:depth] for piece in part]
            table.check(columns, "to serve as a group")
            names.append(":".join(columns))
    return list(dict.fromkeys(names))


def _rows_with_outcome(table: Table, outcome: str | None) -> NDArray[np.intp] | None:
    """Positions of the rows that count; None where all do."""
    if table.n_rows == 0:
        raise TableError("The data must have rows.", "0 rows", "check how they were read")
    if outcome is None:
        return None
    known = table.series(outcome).notna().to_numpy()
    if known.all():
        return None
    if not known.any():
        raise TableError(
            f"The outcome {outcome!r} must be known in some row.",
            f"missing in all {table.n_rows} rows",
            "check the column",
        )
    return np.flatnonzero(known)


def _factor(table: Table, name: str, rows: NDArray[np.intp] | None) -> _Factor:
    """One grouping factor on the rows that count."""
    codes, levels = table.codes(name)
    if rows is not None:
        codes = codes[rows]
    present = np.bincount(codes[codes >= 0], minlength=len(levels)) > 0
    return _Factor(name, codes, levels, int(present.sum()))


def _describe_factor(table: Table, factor: _Factor) -> FactorDescription:
    """Sizes of the groups."""
    known = factor.codes >= 0
    if not known.any():
        raise TableError(
            f"The group {factor.name!r} must be known in some row with an outcome.",
            f"missing in all {len(known)} rows",
            "check the column",
        )
    counts = np.bincount(factor.codes[known], minlength=len(factor.levels))
    sizes = counts[counts > 0]
    n, n_groups = int(sizes.sum()), len(sizes)
    squares = float(np.sum(sizes.astype(float) ** 2))
    return FactorDescription(
        name=factor.name,
        label=table.variable_labels.get(factor.name, ""),
        n_rows=n,
        n_missing=int((~known).sum()),
        n_groups=n_groups,
        size_min=int(sizes.min()),
        size_median=float(np.median(sizes)),
        size_mean=n / n_groups,
        size_max=int(sizes.max()),
        size_effective=squares / n,
        size_anova=(n - squares / n) / (n_groups - 1) if n_groups > 1 else _NAN,
        n_singletons=int((sizes == 1).sum()),
        sizes=sizes,
        levels=factor.levels[counts > 0],
    )


def _describe_variable(
    table: Table, name: str, rows: NDArray[np.intp] | None, factors: Sequence[_Factor]
) -> VariableDescription:
    """One variable, on the rows that count."""
    series = table.series(name)
    kind = kind_of(series)
    n_missing = int(series.isna().sum())
    is_numeric = kind in ("numeric", "boolean")
    values = plain_array(series) if is_numeric else number(series)[0]
    n_infinite = int(np.isinf(values).sum()) if is_numeric else 0
    if rows is not None:
        values = values[rows]
    is_known = np.isfinite(values) if is_numeric else values >= 0
    inside = values if is_known.all() else values[is_known]
    ordered = np.sort(inside)
    n_distinct = len(inside) and 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))
    variations = tuple(_variation(factor, values, is_known, is_numeric) for factor in factors)
    level = _level(factors, variations, n_distinct)
    has_values = is_numeric and len(inside) > 0
    return VariableDescription(
        name=name,
        label=table.variable_labels.get(name, ""),
        kind=kind,
        value_labels=dict(table.value_labels.get(name, {})),
        n_missing=n_missing,
        n_infinite=n_infinite,
        n_distinct=n_distinct,
        mean=float(inside.mean()) if has_values else _NAN,
        sd=float(inside.std(ddof=1)) if has_values and len(inside) > 1 else _NAN,
        minimum=float(inside.min()) if has_values else _NAN,
        maximum=float(inside.max()) if has_values else _NAN,
        is_binary=is_numeric and n_distinct == 2 and inside.min() == 0 and inside.max() == 1,
        level=level,
        varies_at=_varies_at(level, factors, variations),
        by_factor=variations,
    )


def _variation(
    factor: _Factor, values: NDArray[Any], is_known: NDArray[np.bool_], is_numeric: bool
) -> Variation:
    """Where a variable varies relative to one factor."""
    both = is_known & (factor.codes >= 0)
    codes = factor.codes
    if not both.all():
        values, codes = values[both], codes[both]
    describe = describe_numeric if is_numeric else describe_other
    return describe(factor.name, values, codes, len(factor.levels))


def _level(factors: Sequence[_Factor], variations: Sequence[Variation], n_distinct: int) -> str:
    """Name the coarsest factor within which a variable is constant."""
    if n_distinct < 2:
        return "constant"
    homes = [
        (factor.n_groups, factor.name)
        for factor, variation in zip(factors, variations, strict=True)
        if variation.is_constant_within
    ]
    return min(homes)[1] if homes else "row"


def _varies_at(
    level: str, factors: Sequence[_Factor], variations: Sequence[Variation]
) -> tuple[str, ...]:
    """Name its own level, and the coarser factors over which its variance is positive."""
    if level == "constant":
        return ()
    size = {factor.name: factor.n_groups for factor in factors}
    coarser = [
        variation.factor
        for variation in variations
        if (level == "row" or size[variation.factor] < size[level])
        and variation.factor != level
        and variation.icc_unclamped > 0
    ]
    return (level, *sorted(coarser, key=lambda name: -size[name]))
