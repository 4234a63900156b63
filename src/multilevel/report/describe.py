"""The design of a table as text, HTML and a dictionary: groups, nesting, variables by level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from multilevel.report.facts import label_words
from multilevel.report.html import render_html
from multilevel.report.layout import (
    WIDTH,
    Grid,
    Section,
    count,
    decimals_for,
    join_words,
    number,
    percent,
    render_text,
    share,
)
from multilevel.tables.description import (
    DesignDescription,
    PairDescription,
    ReusedIds,
    VariableDescription,
)

_MAX_ICC_COLUMNS = 3
_BULKY = frozenset({"sizes", "levels"})


def describe_text(description: DesignDescription, width: int = WIDTH) -> str:
    """Return the description of a design as plain text, at most ``width`` characters wide."""
    return render_text(_title(description), _sections(description), width)


def describe_html(description: DesignDescription) -> str:
    """Return the description of a design as one self-contained ``<div>``; all text is escaped."""
    return render_html(_title(description), _sections(description))


def describe_json(description: DesignDescription) -> dict[str, Any]:
    """Return the description as a dictionary for ``json.dumps(..., allow_nan=False)``.

    The keys are the attributes of `DesignDescription` and its records, without the sizes and ids
    of every single group; numbers that do not exist are ``None``.
    """
    plain: dict[str, Any] = _plain(description)
    return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in fields(value) if f.name not in _BULKY]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _title(d: DesignDescription) -> tuple[str, ...]:
    factors = join_words([f.name for f in d.factors])
    about = f"{d.outcome} by {factors}" if d.outcome and factors else d.outcome or factors
    return (f"Sampling design: {about}" if about else "Sampling design",)


def _sections(d: DesignDescription) -> list[Section]:
    return [
        Section("Groups", grid=_groups(d), sentences=_row_sentences(d)),
        Section("Nesting", sentences=tuple(s for p in d.pairs for s in _pair_sentences(p))),
        Section("Variables by level", grid=_variables(d), sentences=_variable_notes(d)),
        Section("In words", sentences=(*_outcome_sentences(d), *_split_sentences(d))),
        Section("Labels", lines=_labels(d)),
    ]


def _groups(d: DesignDescription) -> Grid:
    body = tuple(
        (
            f.name,
            str(f.n_groups),
            str(f.size_min),
            f"{f.size_median:g}",
            f"{f.size_mean:.1f}",
            str(f.size_max),
        )
        for f in d.factors
    )
    return Grid(("Grouping factor", "Levels", "Rows each: min", "median", "mean", "max"), body)


def _row_sentences(d: DesignDescription) -> tuple[str, ...]:
    out = []
    if d.outcome is None:
        out.append(f"{count(d.n_rows, 'row')}; no outcome named.")
    elif d.n_rows < d.n_table:
        out.append(
            f"{d.n_rows} of {d.n_table} rows have {d.outcome}; the others are left out below."
        )
    else:
        out.append(f"All {count(d.n_rows, 'row')} have {d.outcome}.")
    for f in d.factors:
        if f.n_missing:
            out.append(f"{f.name} is missing in {count(f.n_missing, 'row')}.")
        if f.n_singletons:
            levels = count(f.n_singletons, "level")
            verb = "has" if f.n_singletons == 1 else "have"
            out.append(f"{levels} of {f.name} {verb} a single row.")
    return tuple(out)


def _pair_sentences(p: PairDescription) -> list[str]:
    cells = (
        f"{p.n_cells} of {p.n_cells_possible} combinations occur, with {p.cell_mean:.1f} rows each"
        " on average"
    )
    if p.relation == "nested":
        out = [f"{p.lower} is nested in {p.upper}: every {p.lower} occurs in one {p.upper} only."]
    elif p.relation == "identical":
        out = [f"{p.first} and {p.second} are the same grouping under two names: use one of them."]
    elif p.relation == "crossed":
        out = [f"{p.first} and {p.second} are fully crossed: {cells}."]
    else:
        out = [
            f"{p.first} and {p.second} are partially crossed: {cells}. {p.n_first_in_many} levels"
            f" of {p.first} occur in more than one {p.second}; {p.n_second_in_many} levels of"
            f" {p.second} in more than one {p.first}."
        ]
    if p.relation in ("crossed", "partially crossed") and p.n_components > 1:
        out.append(
            f"{p.first} and {p.second} fall into {p.n_components} parts that share no level; the"
            f" largest holds {percent(p.largest_component)} of the rows."
        )
    if p.reused is not None:
        out.append(_reused_sentence(p.reused))
    return out


def _reused_sentence(r: ReusedIds) -> str:
    sign = (
        "units of different size all start from the first id, a strong sign of numbering within"
        f" {r.upper}"
        if r.is_numbering_uneven
        else f"{percent(r.share_from_first)} of the levels of {r.upper} use the ids from the first"
        " on without a gap"
    )
    return (
        f"The ids of {r.lower} may start again in every {r.upper} ({count(r.n_ids, 'id')},"
        f" {r.n_units} levels of {r.upper}; {sign}). If the same id in another {r.upper} is another"
        f" {r.lower}, there are {r.n_cells} of them: write {r.formula}. If it is the same"
        f" {r.lower}, the factors are crossed: write (1 | {r.lower}) + (1 | {r.upper})."
    )


def _variables(d: DesignDescription) -> Grid:
    shown = d.factors[:_MAX_ICC_COLUMNS]
    header = ("Variable", "Level", "Missing", "Mean", "SD", *(f"ICC {f.name}" for f in shown))
    order = ["row", *(f.name for f in sorted(d.factors, key=lambda f: -f.n_groups)), "constant"]
    body = []
    for v in sorted(d.variables, key=lambda v: (v.name != d.outcome, order.index(v.level))):
        values = _mean_and_sd(v)
        iccs = [share(v.variation(f.name).icc) for f in shown]
        body.append((v.name, v.level, str(v.n_missing), *values, *iccs))
    return Grid(header, tuple(body), 2)


def _mean_and_sd(v: VariableDescription) -> tuple[str, str]:
    """Both with the decimals that the standard deviation deserves, so that means line up."""
    decimals = decimals_for([v.sd], significant=3)
    mean = f"{v.mean:.{decimals}f}" if math.isfinite(v.mean) else "."
    return mean.replace("-0." + "0" * decimals, "0." + "0" * decimals), number(v.sd, decimals)


def _variable_notes(d: DesignDescription) -> tuple[str, ...]:
    names = join_words([f.name for f in d.factors])
    return (
        f"Level: row = varies within {names}; otherwise the group within which it is constant."
        " ICC: share of the variance between groups, by analysis of variance.",
    )


def _outcome_sentences(d: DesignDescription) -> list[str]:
    if d.outcome is None:
        return []
    out = []
    for v in d.variable(d.outcome).by_factor:
        if not math.isfinite(v.icc):
            continue
        if v.icc == 0.0:
            out.append(f"No variance of {d.outcome} is due to {v.factor} mean differences.")
            continue
        text = (
            f"{percent(v.icc)} of the variance of {d.outcome} is due to {v.factor} mean"
            f" differences. Design effect {v.design_effect:.1f}: for the mean of {d.outcome}, the"
            f" {v.n_rows} rows are worth about {v.n_effective:.0f} independent ones."
        )
        out.append(text)
    return out


def _split_sentences(d: DesignDescription) -> list[str]:
    """Advise two slopes for the predictors that vary within and between the groups of a factor."""
    out = []
    for f in d.factors:
        found = [v for v in d.variables if v.name != d.outcome and _varies_on_both(v, f.name)]
        both = [v.name for v in sorted(found, key=lambda v: v.is_binary)]
        if both:
            verb = "varies" if len(both) == 1 else "vary"
            out.append(
                f"{join_words(both)} {verb} within and between levels of {f.name}. A single slope"
                f" would mix the two effects: write within({both[0]}, {f.name}) +"
                f" between({both[0]}, {f.name})."
            )
    return out


def _varies_on_both(v: VariableDescription, factor: str) -> bool:
    variation = v.variation(factor)
    is_number = v.kind in ("numeric", "boolean")
    return is_number and not variation.is_constant_within and variation.icc_unclamped > 0.01


def _labels(d: DesignDescription) -> tuple[str, ...]:
    out = [f"{f.name}: {f.label}" for f in d.factors if f.label]
    for v in d.variables:
        words = label_words(v.label, v.value_labels)
        if words:
            out.append(f"{v.name}: {words}")
    return tuple(out)
