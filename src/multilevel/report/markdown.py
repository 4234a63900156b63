"""Grids and reports as Markdown (tables with pipes)."""

from __future__ import annotations

import base64
import re

from multilevel.report.document import Document, Part
from multilevel.report.layout import Grid
from multilevel.report.mathml import equations_latex

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def markdown_text(text: str) -> str:
    """Plain text with every character that Markdown or HTML reads as a mark escaped."""
    return _SPECIAL.sub(r"\\\1", text)


def grid_markdown(grid: Grid) -> str:
    """A grid as a Markdown table; words left, numbers right."""
    marks = ["---" if j < grid.n_text_columns else "---:" for j in range(len(grid.header))]
    lines = [_row(grid.header), "| " + " | ".join(marks) + " |"]
    return "\n".join([*lines, *(_row(row) for row in grid.rows)])


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"


def document_markdown(document: Document) -> str:
    """A report as Markdown; equations between double dollars, pictures as data inside."""
    out = [f"# {markdown_text(document.title)}", f"`{document.formula}`"]
    for part in document.parts:
        out += _part(part)
    return "\n\n".join(out) + "\n"


def _part(part: Part) -> list[str]:
    section = part.section
    out = [f"## {markdown_text(section.heading)}"]
    if part.equations:
        inner = equations_latex(part.equations).removeprefix("\\[").removesuffix("\\]").strip()
        out.append(f"$$\n{inner}\n$$")
    out += [f"`{line}`" for line in section.lines]
    if section.grid is not None and section.grid.rows:
        out.append(grid_markdown(section.grid))
    out += [markdown_text(sentence) for sentence in section.sentences]
    for picture in part.pictures:
        data = base64.b64encode(picture.png).decode("ascii")
        out.append(f"![{markdown_text(picture.alternative)}](data:image/png;base64,{data})")
    return out
