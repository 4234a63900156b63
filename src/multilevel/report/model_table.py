"""Models side by side, as journals print them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from multilevel.design.records import Design
from multilevel.errors import InferenceError
from multilevel.estimate.records import Fit
from multilevel.interpret.variance import RESIDUAL, variance_components
from multilevel.report.html import grid_html
from multilevel.report.latex import grid_latex
from multilevel.report.layout import WIDTH, Grid, Section, decimals_for, number, render_text
from multilevel.report.markdown import grid_markdown, markdown_text
from multilevel.report.mathml import tex_text
from multilevel.report.word import grid_word

TableFormat = Literal["text", "html", "latex", "markdown", "docx"]
TABLE_FORMATS: tuple[str, ...] = get_args(TableFormat)
_SUFFIXES = {
    ".txt": "text",
    ".html": "html",
    ".tex": "latex",
    ".md": "markdown",
    ".docx": "docx",
}
_COLUMN = 14


@dataclass(frozen=True)
class ModelColumn:
    """One model of a table.

    Attributes
    ----------
    name : its column title.
    fit, design : the fit and its design.
    coefficients : its fixed effects, ``term, estimate, std_error``.
    """

    name: str
    fit: Fit
    design: Design
    coefficients: pd.DataFrame


@dataclass(frozen=True, repr=False)
class ModelTable:
    """Models side by side; printing it gives the chosen format.

    Attributes
    ----------
    heading : title of the table.
    grid : ready-made cells, one column per model.
    notes : sentences under the table.
    format : what ``str()`` gives; ``"docx"`` prints as text.
    """

    heading: str
    grid: Grid
    notes: tuple[str, ...]
    format: str = "text"

    def text(self, width: int | None = None) -> str:
        """Plain text; as wide as the models need unless ``width`` characters are given."""
        room = max(WIDTH, 34 + _COLUMN * (len(self.grid.header) - 1)) if width is None else width
        return render_text((), [Section(self.heading, grid=self.grid, sentences=self.notes)], room)[
            1:
        ]

    def html(self) -> str:
        """One HTML block; every text is escaped."""
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return (
            f'<div class="mlm-report"><p><b>{escape(self.heading)}</b></p>'
            f"{grid_html(self._indented())}{notes}</div>"
        )

    def latex(self) -> str:
        """A ``table`` environment with booktabs rules."""
        notes = "\n\n".join(tex_text(note) for note in self.notes)
        return (
            f"\\begin{{table}}\n\\centering\n\\caption{{{tex_text(self.heading)}}}\n"
            f"{grid_latex(self._indented())}\n\n\\smallskip\\raggedright\\footnotesize\n{notes}\n"
            "\\end{table}"
        )

    def markdown(self) -> str:
        """A Markdown table with its notes."""
        notes = "\n\n".join(markdown_text(note) for note in self.notes)
        return f"**{markdown_text(self.heading)}**\n\n{grid_markdown(self._indented())}\n\n{notes}"

    def save(self, path: str | Path) -> Path:
        """Write the table; the suffix says how: .txt .html .tex .md .docx. Returns the path."""
        target = Path(path)
        kind = _SUFFIXES.get(target.suffix.lower())
        if kind is None:
            raise InferenceError(
                f"A table is written as one of {', '.join(_SUFFIXES)}.",
                f"the file name {target.name!r}",
                f"write {target.stem + '.docx'!r}",
            )
        if kind == "docx":
            target.write_bytes(grid_word(self.heading, self._indented(), self.notes))
            return target
        text = self._as(kind)
        if kind == "html":
            text = (
                '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
                f"<title>{escape(self.heading)}</title></head><body>{text}</body></html>"
            )
        target.write_text(text + "\n", encoding="utf-8")
        return target

    def _indented(self) -> Grid:
        """The grid with em spaces before the terms: other formats swallow leading blanks."""
        rows = tuple(
            ("\u2003" + row[0].lstrip() if row[0].startswith(" ") else row[0], *row[1:])
            for row in self.grid.rows
        )
        return replace(self.grid, rows=rows)

    def _as(self, kind: str) -> str:
        if kind == "html":
            return self.html()
        if kind == "latex":
            return self.latex()
        return self.markdown() if kind == "markdown" else self.text()

    def __str__(self) -> str:
        return self._as(self.format)

    def __repr__(self) -> str:
        return self._as(self.format)

    def _repr_html_(self) -> str:
        return self.html()


def check_table_format(name: str) -> str:
    """Return the format if it is one of ``TABLE_FORMATS``, else raise InferenceError."""
    if name not in TABLE_FORMATS:
        raise InferenceError(
            f"The format of a table must be one of {', '.join(map(repr, TABLE_FORMATS))}.",
            f"format={name!r}",
            "write format='text', or path='table.docx' to write a file",
        )
    return name


def model_table(columns: Sequence[ModelColumn], table_format: str = "text") -> ModelTable:
    """Lay models out side by side: both sides of each model, its criterion, its sizes.

    Parameters
    ----------
    columns : one per model; titles must differ.
    table_format : what ``str()`` of the table gives, one of ``TABLE_FORMATS``.

    Raises
    ------
    InferenceError : no model, titles that repeat, or an unknown format.
    """
    check_table_format(table_format)
    titles = [column.name for column in columns]
    if not titles or len(set(titles)) < len(titles):
        raise InferenceError(
            "A table of models needs at least one model, and a title of its own for each.",
            f"the titles {titles}",
            'pass names=["empty", "with ses"], one per model',
        )
    blank = ("",) * len(columns)
    rows = [("Model for the means", *blank), *_means(columns)]
    rows += [("Model for the variance", *blank), *_variances(columns)]
    rows += [("Fit", *blank), *_fit(columns)]
    responses = list(dict.fromkeys(c.design.model.response for c in columns))
    heading = f"Multilevel models for {' / '.join(responses)}"
    return ModelTable(heading, Grid(("", *titles), tuple(rows)), _notes(columns), table_format)


def _means(columns: Sequence[ModelColumn]) -> list[tuple[str, ...]]:
    found = [
        {
            str(term): (float(value), float(error))
            for term, value, error in zip(t["term"], t["estimate"], t["std_error"], strict=True)
        }
        for t in (column.coefficients for column in columns)
    ]
    out = []
    for term in dict.fromkeys(term for terms in found for term in terms):
        places = decimals_for([terms[term][1] for terms in found if term in terms], 3)
        pairs = [terms.get(term) for terms in found]
        out.append((f"  {term}", *("" if p is None else number(p[0], places) for p in pairs)))
        out.append(("", *("" if p is None else f"({number(p[1], places)})" for p in pairs)))
    return out


def _variances(columns: Sequence[ModelColumn]) -> list[tuple[str, ...]]:
    found: list[dict[str, float]] = []
    for column in columns:
        parts: dict[str, float] = {}
        for c in variance_components(column.design, column.fit):
            if c.group == RESIDUAL:
                continue
            label = f"{c.group}: covariance of {c.term}, {c.term2}"
            parts[label if c.term2 else f"{c.group}: variance of {c.term}"] = c.variance
        found.append(parts)
    labels = dict.fromkeys(label for parts in found for label in parts)
    out = []
    for label in labels:
        values = [parts.get(label) for parts in found]
        places = decimals_for([v for v in values if v is not None], 3)
        out.append((f"  {label}", *("" if v is None else number(v, places) for v in values)))
    places = decimals_for([c.fit.sigma2 for c in columns], 3)
    residual = (number(c.fit.sigma2, places) for c in columns)
    return [*out, ("  residual variance", *residual)]


def _fit(columns: Sequence[ModelColumn]) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for method, label in (("ml", "-2 log-likelihood"), ("reml", "REML criterion")):
        if any(c.fit.method == method for c in columns):
            cells = (f"{c.fit.criterion:.2f}" if c.fit.method == method else "" for c in columns)
            out.append((f"  {label}", *cells))
    out.append(("  AIC", *(f"{c.fit.aic:.2f}" for c in columns)))
    out.append(("  BIC", *(f"{c.fit.bic:.2f}" for c in columns)))
    out.append(("  parameters", *(str(c.fit.n_parameters) for c in columns)))
    out.append(("  rows", *(str(c.fit.n) for c in columns)))
    sizes = [{b.group: b.n_levels for b in c.design.blocks} for c in columns]
    groups = dict.fromkeys(group for size in sizes for group in size)
    return out + [(f"  levels of {g}", *(str(size.get(g, "")) for size in sizes)) for g in groups]


def _notes(columns: Sequence[ModelColumn]) -> tuple[str, ...]:
    notes = ["Standard errors of fixed effects in parentheses."]
    methods = {c.fit.method for c in columns}
    if len(methods) > 1:
        notes.append("Models fitted by REML and by ML: their criteria, AIC and BIC do not compare.")
    else:
        notes.append(f"Estimated by {next(iter(methods)).upper()}.")
        fixed = {frozenset(c.design.names) for c in columns}
        if methods == {"reml"} and len(fixed) > 1:
            notes.append(
                "REML criteria, AIC and BIC of models with different fixed effects do not compare:"
                " fit them by ML for that."
            )
    if len({c.fit.n for c in columns}) > 1:
        notes.append("The models use different rows: their criteria do not compare.")
    doubtful = [c.name for c in columns if not c.fit.certificate.is_certified]
    if doubtful:
        notes.append(f"Not shown to be at their optimum: {', '.join(doubtful)}.")
    singular = [c.name for c in columns if c.fit.certificate.status == "singular"]
    if singular:
        notes.append(
            f"On the boundary (a variance of zero or a perfect correlation): {', '.join(singular)}."
        )
    return tuple(notes)
