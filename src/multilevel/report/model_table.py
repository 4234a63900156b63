"""Models side by side, as journals print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Literal, get_args

from multilevel.errors import InferenceError
from multilevel.report.html import grid_html
from multilevel.report.latex import grid_latex
from multilevel.report.layout import WIDTH, Grid, Section, decimals_for, number, render_text
from multilevel.report.markdown import grid_markdown, markdown_text
from multilevel.report.mathml import tex_text
from multilevel.report.model_column import Cell, Column
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


def model_table(columns: Sequence[Column], table_format: str = "text") -> ModelTable:
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
    rows = [("Model for the means", *blank), *_estimates([column.means for column in columns])]
    for heading in dict.fromkeys(heading for column in columns for heading in column.others):
        found = [column.others.get(heading, {}) for column in columns]
        rows += [(heading, *blank), *_estimates(found)]
    rows += [("Model for the variance", *blank), *_variances(columns)]
    rows += [("Fit", *blank), *_fit(columns)]
    responses = list(dict.fromkeys(c.response for c in columns))
    heading = f"Multilevel models for {' / '.join(responses)}"
    return ModelTable(heading, Grid(("", *titles), tuple(rows)), _notes(columns), table_format)


def _estimates(found: Sequence[Mapping[str, Cell]]) -> list[tuple[str, ...]]:
    """Two lines for each term: estimates, then standard errors in parentheses."""
    out = []
    for term in dict.fromkeys(term for terms in found for term in terms):
        places = decimals_for([terms[term][1] for terms in found if term in terms], 3)
        pairs = [terms.get(term) for terms in found]
        out.append((f"  {term}", *("" if p is None else number(p[0], places) for p in pairs)))
        out.append(("", *("" if p is None else f"({number(p[1], places)})" for p in pairs)))
    return out


def _variances(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    found = [column.variances for column in columns]
    labels = dict.fromkeys(label for parts in found for label in parts)
    out = []
    for label in labels:
        values = [parts.get(label) for parts in found]
        places = decimals_for([v for v in values if v is not None], 3)
        out.append((f"  {label}", *("" if v is None else number(v, places) for v in values)))
    residuals = [column.residual for column in columns]
    known = [value for value in residuals if value is not None]
    if not known:
        return out
    places = decimals_for(known, 3)
    cells = ("" if value is None else number(value, places) for value in residuals)
    return [*out, ("  residual variance", *cells)]


def _fit(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for method, label in (("ml", "-2 log-likelihood"), ("reml", "REML criterion")):
        if any(c.fit.method == method for c in columns):
            cells = (f"{c.fit.criterion:.2f}" if c.fit.method == method else "" for c in columns)
            out.append((f"  {label}", *cells))
    out.append(("  AIC", *(f"{c.fit.aic:.2f}" for c in columns)))
    out.append(("  BIC", *(f"{c.fit.bic:.2f}" for c in columns)))
    out.append(("  parameters", *(str(c.fit.n_parameters) for c in columns)))
    out.append(("  rows", *(str(c.fit.n) for c in columns)))
    sizes = [column.levels for column in columns]
    groups = dict.fromkeys(group for size in sizes for group in size)
    return out + [(f"  levels of {g}", *(str(size.get(g, "")) for size in sizes)) for g in groups]


def _notes(columns: Sequence[Column]) -> tuple[str, ...]:
    notes = ["Standard errors of fixed effects in parentheses."]
    methods = {c.fit.method for c in columns}
    if len(methods) > 1:
        notes.append("Models fitted by REML and by ML: their criteria, AIC and BIC do not compare.")
    else:
        notes.append(f"Estimated by {next(iter(methods)).upper()}.")
        fixed = {frozenset(c.means) for c in columns}
        if methods == {"reml"} and len(fixed) > 1:
            notes.append(
                "REML criteria, AIC and BIC of models with different fixed effects do not compare:"
                " fit them by ML for that."
            )
    families = dict.fromkeys(c.family for c in columns)
    if len(families) > 1 or any(c.computed for c in columns):
        listed = "; ".join(f"{c.name}: {c.family}{_how(c)}" for c in columns)
        notes.append(f"{listed}.")
    if len({(c.computed, c.family) for c in columns if c.computed}) > 1 or len(families) > 1:
        notes.append(
            "Coefficients on different scales do not compare; criteria do only where the outcome"
            " is the same and the likelihood was computed in the same way."
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


def _how(column: Column) -> str:
    return f", {column.computed}" if column.computed else ""
