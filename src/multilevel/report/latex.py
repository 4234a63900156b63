"""Grids and reports as LaTeX, with no package beyond booktabs and graphicx."""

from __future__ import annotations

from multilevel.report.document import Document, Part
from multilevel.report.layout import Grid
from multilevel.report.mathml import equations_latex, tex_text

_PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
"""


def grid_latex(grid: Grid) -> str:
    """A grid as a ``tabular`` between booktabs rules; words left, numbers right."""
    k = grid.n_text_columns
    form = "l" * k + "r" * (len(grid.header) - k)
    lines = [f"\\begin{{tabular}}{{{form}}}", "\\toprule", _row(grid.header), "\\midrule"]
    lines += [_row(row) for row in grid.rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def _row(cells: tuple[str, ...]) -> str:
    # A row that begins with a bracket would be read as an option of the line before.
    text = " & ".join(_cell(cell) for cell in cells)
    return ("{}" if text.startswith("[") else "") + text + " \\\\"


def _cell(text: str) -> str:
    negative = text.startswith("-") and text[1:2].isdigit()
    return f"$-${tex_text(text[1:])}" if negative else tex_text(text)


def document_latex(document: Document, picture_files: tuple[str, ...] = ()) -> str:
    """A report as a LaTeX article.

    ``picture_files`` names one file for each picture of the document, in order (TeX cannot hold
    pictures inside).
    """
    names = iter(picture_files)
    out = [
        _PREAMBLE,
        f"\\title{{{tex_text(document.title)}}}\n\\date{{}}\n\\maketitle",
        f"\\noindent\\texttt{{{tex_text(document.formula)}}}",
    ]
    for part in document.parts:
        out += _part(part)
        out += [
            f"\\begin{{center}}\\includegraphics[width=\\linewidth]{{{name}}}\\end{{center}}"
            for _, name in zip(part.pictures, names, strict=False)
        ]
    return "\n\n".join([*out, "\\end{document}"]) + "\n"


def _part(part: Part) -> list[str]:
    section = part.section
    out = [f"\\section*{{{tex_text(section.heading)}}}"]
    if part.equations:
        out.append(equations_latex(part.equations))
    out += [f"\\noindent\\texttt{{{tex_text(line)}}}" for line in section.lines]
    if section.grid is not None and section.grid.rows:
        out.append("\\noindent\n" + grid_latex(section.grid))
    return [*out, *(tex_text(sentence) for sentence in section.sentences)]
