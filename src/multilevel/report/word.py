"""Grids and reports as Word files, through python-docx."""

from __future__ import annotations

import io
from typing import Any

from multilevel.report.document import Document, Part
from multilevel.report.layout import Grid
from multilevel.report.mathml import symbol_runs
from multilevel.report.packages import require
from multilevel.report.symbols import Equation


def document_word(document: Document) -> bytes:
    """A report as the bytes of a ``.docx`` file.

    Raises ``MissingPackageError`` if python-docx is not installed.
    """
    file = _new()
    file.add_heading(document.title, level=1)
    file.add_paragraph().add_run(document.formula).font.name = "Consolas"
    for part in document.parts:
        _add_part(file, part)
    return _bytes(file)


def grid_word(heading: str, grid: Grid, notes: tuple[str, ...] = ()) -> bytes:
    """One table with its heading and notes as the bytes of a ``.docx`` file."""
    file = _new()
    if heading:
        file.add_heading(heading, level=2)
    _add_grid(file, grid)
    for note in notes:
        file.add_paragraph(note)
    return _bytes(file)


def _new() -> Any:
    require("docx", "Word files", "python-docx")
    import docx

    return docx.Document()


def _bytes(file: Any) -> bytes:
    buffer = io.BytesIO()
    file.save(buffer)
    return buffer.getvalue()


def _add_part(file: Any, part: Part) -> None:
    from docx.shared import Inches

    section = part.section
    file.add_heading(section.heading, level=2)
    for equation in part.equations:
        _add_equation(file, equation)
    for line in section.lines:
        file.add_paragraph().add_run(line).font.name = "Consolas"
    if section.grid is not None and section.grid.rows:
        _add_grid(file, section.grid)
    for sentence in section.sentences:
        file.add_paragraph(sentence)
    for picture in part.pictures:
        file.add_picture(io.BytesIO(picture.png), width=Inches(6.0))


def _add_grid(file: Any, grid: Grid) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt

    table = file.add_table(rows=0, cols=len(grid.header))
    table.style = "Light Shading"
    for i, row in enumerate((grid.header, *grid.rows)):
        cells = table.add_row().cells
        for j, (cell, text) in enumerate(zip(cells, row, strict=True)):
            paragraph = cell.paragraphs[0]
            run = paragraph.add_run(text)
            run.font.size = Pt(9)
            run.bold = i == 0
            paragraph.paragraph_format.space_after = Pt(0)
            if j >= grid.n_text_columns:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    file.add_paragraph()


def _add_equation(file: Any, equation: Equation) -> None:
    paragraph = file.add_paragraph()
    if equation.label:
        paragraph.add_run(f"{equation.label}:  ")
    _add_symbol(paragraph, equation.left)
    paragraph.add_run(" = ")
    for k, (sign, term) in enumerate(equation.signed):
        if sign:
            paragraph.add_run(f" {sign} " if k else sign)
        for m, symbol in enumerate(term):
            if m:
                paragraph.add_run(" ")
            _add_symbol(paragraph, symbol)
    if not equation.right:
        paragraph.add_run("0")


def _add_symbol(paragraph: Any, symbol: Any) -> None:
    body, below = symbol_runs(symbol)
    if symbol.before:
        paragraph.add_run(symbol.before)
    paragraph.add_run(body).italic = not symbol.is_variable
    if below:
        paragraph.add_run(below).font.subscript = True
    if symbol.after:
        paragraph.add_run(symbol.after)
