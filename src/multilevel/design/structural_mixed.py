"""A structural model with families laid over a table: outcomes one under the other.

Every value of an outcome is one entry. A *kind* of entries is an outcome together with those of its
correlated Gaussian partners that are there in the same row: given these, its residual is
independent of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Response
from multilevel.design.structural import Missing
from multilevel.errors import DesignError
from multilevel.model.families.catalogue import family_of
from multilevel.model.families.categories import CATEGORY_LINKS, with_categories
from multilevel.model.families.records import Family
from multilevel.model.structural.mixed import MixedModel, residual_partners, within_order
from multilevel.tables.table import Table

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class OutcomeKind:
    """Entries of one outcome.

    Attributes
    ----------
    outcome : index among the outcomes.
    given : indices of the outcomes whose residuals are conditioned on.
    rows : (m,) rows of the design.
    response : their values.
    """

    outcome: int
    given: tuple[int, ...]
    rows: Index
    response: Response


@dataclass(frozen=True)
class ClusterFactor:
    """One cluster column: ``codes`` (n,), ``labels`` (J,), ``z`` (J, p_z) level-2 variables."""

    name: str
    codes: NDArray[np.int32]
    labels: NDArray[np.object_]
    z: Array


@dataclass(frozen=True)
class MixedDesign:
    """All numbers of a mixed structural model.

    Attributes
    ----------
    model : the model.
    outcomes : names, causes before effects; the columns of ``values`` (n, p), NaN where missing.
    inputs : names of the predictors conditioned on; the columns of ``given`` (n, k).
    families : per outcome, with its categories.
    kinds : the entries.
    factors : per cluster column.
    rows : (n,) their rows of the table.
    n_table, missing, notes : as in ``StructuralDesign``.
    """

    model: MixedModel
    outcomes: tuple[str, ...]
    values: Array
    inputs: tuple[str, ...]
    given: Array
    families: tuple[Family, ...]
    kinds: tuple[OutcomeKind, ...]
    factors: tuple[ClusterFactor, ...]
    rows: Index
    n_table: int
    missing: dict[str, int]
    notes: tuple[str, ...]

    @property
    def n_rows(self) -> int:
        """Rows used."""
        return len(self.values)

    @property
    def is_crossed(self) -> bool:
        """Whether a cluster column is not nested in the next."""
        for fine, coarse in pairwise(self.factors):
            home = np.full(len(fine.labels), -1)
            home[fine.codes] = coarse.codes
            if np.any(home[fine.codes] != coarse.codes):
                return True
        return False


def build_mixed_design(
    model: MixedModel, table: Table, *, missing: Missing = "fiml", is_nested: bool = False
) -> MixedDesign:
    """Lay a mixed structural model over a table.

    Parameters
    ----------
    is_nested : labels of a cluster column may repeat in different clusters of the next.

    Raises
    ------
    TableError : a variable that is not a column.
    DesignError : values that a family does not allow, level-2 variables that vary within clusters
        or are missing, no rows.
    """
    order = within_order(model)
    level_2 = tuple(dict.fromkeys(n for m in model.models for n in m.between_only))
    names = (*order, *model.inputs)
    table.check([*names, *level_2, *model.clusters], "for the structural model")
    columns = {name: _numbers(table, name) for name in (*names, *level_2)}
    codes = {name: table.codes(name) for name in model.clusters}
    if is_nested:
        codes = _nested_codes(codes)
    keep = np.ones(table.n_rows, dtype=np.bool_)
    for name in model.clusters:
        keep &= codes[name][0] >= 0
    for name in (*model.inputs, *(order if missing == "listwise" else ())):
        keep &= ~np.isnan(columns[name])
    some = np.zeros(table.n_rows, dtype=np.bool_)
    for name in order:
        some |= ~np.isnan(columns[name])
    rows = np.flatnonzero(keep & some)
    if not len(rows):
        raise DesignError("The model needs rows.", "none is left",
                          "look for missing values in " + ", ".join(names))  # fmt: skip
    values = np.column_stack([columns[n][rows] for n in order])
    given = np.column_stack([np.zeros((len(rows), 0)), *(columns[n][rows] for n in model.inputs)])
    families = tuple(_family(model, n, values[:, k], rows) for k, n in enumerate(order))
    factors = tuple(
        _factor(m.between_only, name, codes[name], columns, rows)
        for m, name in zip(model.models, model.clusters, strict=False)
    )
    for factor, m in zip(factors, model.models, strict=False):
        _check_split(factor, m.both, order, values)
    holes = {n: int(np.isnan(values[:, k]).sum()) for k, n in enumerate(order)}
    left_out = table.n_rows - len(rows)
    why = "the cluster, a predictor that is conditioned on, or all outcomes"
    why = "a variable of the model" if missing == "listwise" else why
    return MixedDesign(
        model=model,
        outcomes=order,
        values=values,
        inputs=model.inputs,
        given=given,
        families=families,
        kinds=_kinds(model, order, values, families),
        factors=factors,
        rows=rows,
        n_table=table.n_rows,
        missing={n: m for n, m in holes.items() if m},
        notes=(f"{left_out} of {table.n_rows} rows are left out: they miss {why}.",)
        if left_out
        else (),
    )


def _nested_codes(
    codes: dict[str, tuple[NDArray[np.int32], NDArray[Any]]],
) -> dict[str, tuple[NDArray[np.int32], NDArray[Any]]]:
    """Codes of clusters whose labels repeat in the clusters above, lowest first."""
    out: dict[str, tuple[NDArray[np.int32], NDArray[Any]]] = {}
    above: tuple[NDArray[np.int32], NDArray[Any]] | None = None
    for name, (own, labels) in reversed(codes.items()):
        if above is not None:
            known = (own >= 0) & (above[0] >= 0)
            pairs = np.column_stack([above[0], own])[known]
            unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
            combined = np.full(len(own), -1, dtype=np.int32)
            combined[known] = inverse.ravel()
            shown = [f"{above[1][a]}/{labels[b]}" for a, b in unique]
            own, labels = combined, np.array(shown, dtype=object)
        above = (own, labels)
        out[name] = above
    return dict(reversed(out.items()))


def _numbers(table: Table, name: str) -> Array:
    if table.kind(name) not in ("numeric", "boolean"):
        raise DesignError(
            "Variables of a structural model are numbers.",
            f"{name!r} is {table.kind(name)}",
            "code two categories as 0 and 1, ordered categories as 1, 2, 3, ... first",
        )
    values = np.asarray(table.column(name), dtype=np.float64)
    if np.any(np.isinf(values)):
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise DesignError("Values are finite.", f"{name!r} is infinite in row {row}",
                          "make it missing or correct it")  # fmt: skip
    return values


def _family(model: MixedModel, name: str, values: Array, rows: Index) -> Family:
    """The family of one outcome, its values checked."""
    family = model.families.get(name, family_of("gaussian"))
    known = values[~np.isnan(values)]
    if not len(known) or float(np.ptp(known)) == 0.0:
        raise DesignError("Every variable varies.", f"{name!r} has one value", "leave it out")
    if family.name in CATEGORY_LINKS:
        levels = np.unique(known)
        if len(levels) > 20:
            raise DesignError(
                "An ordinal outcome has at most 20 categories.",
                f"{name!r} has {len(levels)} different values",
                "take it out of families= (Gaussian), or merge categories",
            )
        return with_categories(family, _labels(levels))
    allowed = {
        "binary": (np.isin(values, (0.0, 1.0)), "0 or 1"),
        "count": ((values >= 0.0) & (values == np.floor(values)), "whole numbers, not negative"),
        "positive": (values > 0.0, "positive numbers"),
        "nonnegative": (values >= 0.0, "numbers that are not negative"),
        "proportion": ((values > 0.0) & (values < 1.0), "strictly between 0 and 1"),
    }.get(family.response)
    if allowed is not None:
        bad = np.flatnonzero(~allowed[0] & ~np.isnan(values))
        if len(bad):
            raise DesignError(
                f"Values of the {family.label} family are {allowed[1]}.",
                f"{name!r} is {values[bad[0]]:g} in row {int(rows[bad[0]])}"
                + (f" and {len(bad) - 1} more" if len(bad) > 1 else ""),
                "recode the column, or name another family",
            )
    return family


def _factor(
    names: Sequence[str],
    cluster: str,
    coded: tuple[NDArray[np.int32], NDArray[Any]],
    columns: dict[str, Array],
    rows: Index,
) -> ClusterFactor:
    """One cluster column with its level-2 variables."""
    codes, labels = coded
    used, inverse = np.unique(codes[rows], return_inverse=True)
    compact = np.asarray(inverse.ravel(), dtype=np.int32)
    shown = np.asarray(labels, dtype=object)[used]
    z = np.full((len(used), len(names)), np.nan)
    for k, name in enumerate(names):
        value = columns[name]
        known = (codes >= 0) & ~np.isnan(value)
        of_cluster = np.full(len(labels), np.nan)
        of_cluster[codes[known]] = value[known]
        differs = known & (value != of_cluster[np.maximum(codes, 0)])
        if np.any(differs):
            label = labels[codes[int(np.flatnonzero(differs)[0])]]
            raise DesignError(
                "A variable that is named at a cluster level only has one value per cluster.",
                f"{name!r} has several values in {cluster} {label!r}",
                f"name it at the within level too, e.g. {name} ~~ {name}: its between part is "
                "then its latent cluster mean",
            )
        z[:, k] = of_cluster[used]
        empty = np.flatnonzero(np.isnan(z[:, k]))
        if len(empty):
            raise DesignError(
                "With families= or crossed clusters, level-2 variables are complete.",
                f"{name!r} is missing in {len(empty)} {cluster}, the first is {shown[empty[0]]!r}",
                "leave these clusters out, or leave the variable out",
            )
        if float(np.ptp(z[:, k])) == 0.0:
            raise DesignError("Every variable varies.", f"{name!r} has one value", "leave it out")
    return ClusterFactor(cluster, compact, shown, z)


def _check_split(
    factor: ClusterFactor, names: Sequence[str], order: Sequence[str], values: Array
) -> None:
    """Variables on both levels vary within clusters, and some cluster has two rows."""
    if names and len(factor.labels) == len(values):
        raise DesignError(
            "Some clusters have two rows or more.",
            f"every {factor.name} has one",
            "write a model without levels, or name another cluster column",
        )
    for name in names:
        y = values[:, list(order).index(name)]
        known = ~np.isnan(y)
        n = np.bincount(factor.codes[known], minlength=len(factor.labels))
        total = np.bincount(factor.codes[known], y[known], minlength=len(factor.labels))
        mean = total / np.maximum(n, 1)
        if float(np.max(np.abs(y[known] - mean[factor.codes[known]]))) <= 1e-12 * np.ptp(y[known]):
            raise DesignError(
                "A variable that is named at the within level varies within clusters.",
                f"{name!r} has one value in every {factor.name}",
                f"name {name} at that level only",
            )


def _kinds(
    model: MixedModel, order: Sequence[str], values: Array, families: Sequence[Family]
) -> tuple[OutcomeKind, ...]:
    """Entries by outcome and by which of its partners are there."""
    partners = residual_partners(model, order)
    place = {name: k for k, name in enumerate(order)}
    out = []
    for k, name in enumerate(order):
        there = np.flatnonzero(~np.isnan(values[:, k]))
        levels = np.unique(values[there, k])
        before = [place[n] for n in partners[name]]
        seen = ~np.isnan(values[there][:, before])
        patterns, which = np.unique(seen, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = there[which.ravel() == number]
            given = tuple(p for p, is_there in zip(before, pattern, strict=True) if is_there)
            response = _response(values[rows, k], families[k], levels)
            out.append(OutcomeKind(k, given, rows, response))
    return tuple(out)


def _response(values: Array, family: Family, levels: Array) -> Response:
    """Values as the row likelihood of the family reads them."""
    if family.name not in CATEGORY_LINKS:
        return Response(np.ascontiguousarray(values))
    codes = np.searchsorted(levels, values).astype(np.float64)
    return Response(codes, None, None, _labels(levels))


def _labels(levels: Array) -> tuple[str, ...]:
    return tuple(f"{v:.12g}" for v in levels)
