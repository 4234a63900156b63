"""One report of a fit as a list of parts; the writers turn the same list into any format.

Nothing here is computed again: every number comes from the fit, its design, or the tables that
the caller hands over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from multilevel.design.records import Design
from multilevel.estimate.records import Fit
from multilevel.report.effect_words import table_in_words
from multilevel.report.equations import equation_records, index_note
from multilevel.report.layout import Grid, Section, decimals_for, number
from multilevel.report.methods_paragraph import methods_paragraph
from multilevel.report.summary import sections, title
from multilevel.report.symbols import Equation

_MEANS = "Model for the means (fixed effects)"
_TITLES = {
    "term": "Term",
    "estimate": "Estimate",
    "std_error": "Std. error",
    "df": "df",
    "statistic": "Est./SE",
    "p_value": "p",
    "conf_low": "95% low",
    "conf_high": "95% high",
}
_UNITS = ("estimate", "std_error", "conf_low", "conf_high")


@dataclass(frozen=True)
class Picture:
    """One picture: its heading, what it shows, and the PNG."""

    heading: str
    alternative: str
    png: bytes


@dataclass(frozen=True)
class Part:
    """A section with, besides, equations before its text and pictures after it."""

    section: Section
    equations: tuple[Equation, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing under the heading."""
        return self.section.is_empty and not self.equations and not self.pictures


@dataclass(frozen=True)
class Document:
    """A whole report: title, formula, parts in reading order."""

    title: str
    formula: str
    parts: tuple[Part, ...]


def build_document(
    fit: Fit,
    design: Design,
    coefficients: pd.DataFrame,
    *,
    labels: Mapping[str, str] | None = None,
    pictures: Sequence[Picture] = (),
    tables: Mapping[str, pd.DataFrame] | None = None,
    shows_advice: bool = True,
    version: str = "",
) -> Document:
    """Lay one fit out as a report.

    Parameters
    ----------
    fit, design : the fit and its design.
    coefficients : one row per fixed effect with ``term, estimate, std_error`` and, where the
        caller has them, ``df, statistic, p_value, conf_low, conf_high``.
    labels : ``{variable: label}``.
    pictures : in the order of printing.
    tables : further tables by heading, such as effect sizes.
    shows_advice : whether the part on advice is kept.
    version : of this package, for the methods paragraph; empty leaves it out.
    """
    head = title(fit, design)
    parts: list[Part] = []
    effects = [_table_part(heading, table) for heading, table in (tables or {}).items()]
    for section in sections(fit, design, labels, verbose=True):
        if section.heading == "Advice" and not shows_advice:
            continue
        if section.heading == "Equations":
            index = index_note(design)
            heading_only = Section("Equations", sentences=(index,) if index else ())
            parts.append(Part(heading_only, equations=equation_records(design)))
        elif section.heading == _MEANS and design.names:
            about = str(coefficients.attrs.get("sentence", ""))
            said = (*section.sentences, about) if about else section.sentences
            grid = coefficient_grid(coefficients)
            parts.append(Part(Section(_MEANS, grid=grid, sentences=said)))
        elif section.heading == "Labels":
            parts.append(Part(Section("Labels", sentences=section.lines)))
        elif section.heading == "Engine":
            # Times differ between runs; a report of one fit should not.
            parts.append(Part(Section("Engine", lines=(fit.plan,))))
        else:
            if section.heading == "Convergence":
                # what the model says comes before how it was computed
                parts += effects
            parts.append(Part(section))
    if pictures:
        parts.append(Part(Section("Pictures"), pictures=tuple(pictures)))
    paragraph = methods_paragraph(fit, design, coefficients, version)
    parts.append(Part(Section("Methods paragraph", sentences=(paragraph,))))
    return Document(head[0], design.model.formula, tuple(p for p in parts if not p.is_empty))


def _table_part(heading: str, table: pd.DataFrame) -> Part:
    """A further table, its components in words."""
    note = str(table.attrs.get("sentence", ""))
    # A sentence per row would make the table too wide for a page.
    shown = table_in_words(table.drop(columns="sentence", errors="ignore"))
    return Part(Section(heading, grid=frame_grid(shown), sentences=(note,) if note else ()))


def p_text(value: float) -> str:
    """A p value with three decimals, ``<.001`` below that, ``.`` if it does not exist."""
    if not np.isfinite(value):
        return "."
    return "<.001" if value < 0.0005 else f"{value:.3f}"


def coefficient_grid(table: pd.DataFrame) -> Grid:
    """The fixed effects as ready-made cells; the columns that the table has, in its order."""
    columns = [name for name in _TITLES if name in table.columns]
    places = decimals_for([float(v) for v in table["std_error"]])
    if "statistic" not in columns:
        ratio = table["estimate"] / table["std_error"].where(table["std_error"] > 0.0)
        table = table.assign(statistic=ratio)
        columns.insert(3, "statistic")
    cells = []
    for _, row in table.iterrows():
        cells.append(tuple(_coefficient_cell(name, row[name], places) for name in columns))
    header = [_TITLES[name] for name in columns]
    level = table.attrs.get("conf_level")
    if level is not None:
        header = [h.replace("95%", f"{100 * float(level):g}%") for h in header]
    return Grid(tuple(header), tuple(cells))


def _coefficient_cell(name: str, value: object, places: int) -> str:
    if name == "term":
        return str(value)
    plain = float(str(value))
    if name == "p_value":
        return p_text(plain)
    if name == "df":
        return number(plain, 1) if np.isfinite(plain) else "inf" if np.isinf(plain) else "."
    return number(plain, places if name in _UNITS else 2)


def frame_grid(table: pd.DataFrame) -> Grid:
    """Any table as cells: words left, numbers with four significant digits right."""
    words = [c for c in table.columns if table[c].dtype.kind not in "fiu"]
    numbers = [c for c in table.columns if c not in words]
    places = {
        c: 0 if table[c].dtype.kind in "iu" else decimals_for([float(v) for v in table[c]])
        for c in numbers
    }
    body = []
    for _, row in table.iterrows():
        text = [" ".join(row[c]) if isinstance(row[c], tuple) else str(row[c]) for c in words]
        body.append((*text, *(_plain_cell(float(row[c]), places[c]) for c in numbers)))
    return Grid(
        tuple(str(c).replace("_", " ") for c in (*words, *numbers)), tuple(body), max(1, len(words))
    )


def _plain_cell(value: float, places: int) -> str:
    return f"{value:.0f}" if places == 0 and np.isfinite(value) else number(value, places)
