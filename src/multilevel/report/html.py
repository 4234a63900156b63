"""The summary of one fit as one self-contained HTML block, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from multilevel.design.records import Design
from multilevel.estimate.records import Fit
from multilevel.report.layout import Grid, Section
from multilevel.report.summary import sections, title

# Only inherited colours and relative sizes, so that light and dark notebooks both stay readable.
_STYLE = (
    ".mlm-report{max-width:48em;line-height:1.4}"
    ".mlm-report table{border-collapse:collapse;margin:.3em 0}"
    ".mlm-report th,.mlm-report td{padding:.15em .7em;text-align:left;"
    "font-variant-numeric:tabular-nums}"
    ".mlm-report thead th{border-bottom:1px solid currentColor}"
    ".mlm-report .mlm-number{text-align:right}"
    ".mlm-report .mlm-heading{font-weight:bold;margin:.9em 0 .2em}"
    ".mlm-report p{margin:.2em 0}"
)


def summary_html(
    fit: Fit,
    design: Design,
    labels: Mapping[str, str] | None = None,
    verbose: bool = False,
) -> str:
    """Return the summary of a fit as one ``<div>`` with its own style; all text is escaped.

    The content is that of ``summary_text`` and the parameters mean the same.
    """
    return render_html(title(fit, design), sections(fit, design, labels, verbose))


def render_html(title_lines: Sequence[str], parts: Iterable[Section]) -> str:
    """Print title lines and sections as one self-contained ``<div>``."""
    out = [f'<div class="mlm-report"><style>{_STYLE}</style>']
    if title_lines:
        out.append(f'<p class="mlm-heading">{escape(title_lines[0])}</p>')
        out += [f"<p><code>{escape(line)}</code></p>" for line in title_lines[1:]]
    for section in parts:
        if section.is_empty:
            continue
        out.append(f'<p class="mlm-heading">{escape(section.heading)}</p>')
        out += [f"<p><code>{escape(line)}</code></p>" for line in section.lines]
        if section.grid is not None and section.grid.rows:
            out.append(grid_html(section.grid))
        out += [f"<p>{escape(sentence)}</p>" for sentence in section.sentences]
    out.append("</div>")
    return "\n".join(out)


def grid_html(grid: Grid) -> str:
    """A grid as an HTML table; all text is escaped."""
    head = "".join(_cell("th", cell, j, grid) for j, cell in enumerate(grid.header))
    rows = "".join(
        "<tr>" + "".join(_cell("td", cell, j, grid) for j, cell in enumerate(row)) + "</tr>"
        for row in grid.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(tag: str, text: str, column: int, grid: Grid) -> str:
    kind = "" if column < grid.n_text_columns else ' class="mlm-number"'
    return f"<{tag}{kind}>{escape(text)}</{tag}>"
