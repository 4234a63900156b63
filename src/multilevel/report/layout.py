"""Sections, grids and numbers: the shapes that every report is made of.

A report is a list of ``Section``; ``render_text`` and ``html.render_html`` print the same list, so
that terminal and notebook never say different things.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 80
_INDENT = "  "
_GAP = "  "
_MISSING = "."
_MIN_WORDS = 12
_CALL = re.compile(r"\w\([^()]*\)")
_NO_BREAK = "\u00a0"


@dataclass(frozen=True)
class Grid:
    """A table of ready-made cells.

    Attributes
    ----------
    header : column titles.
    rows : cells, as many per row as there are titles.
    n_text_columns : the first columns hold words (left-aligned), the rest numbers (right).
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_text_columns: int = 1


@dataclass(frozen=True)
class Section:
    """A heading with, in this order, lines kept as they are, a table, and sentences to wrap."""

    heading: str
    lines: tuple[str, ...] = ()
    grid: Grid | None = None
    sentences: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing under the heading."""
        return not (self.lines or self.sentences or (self.grid and self.grid.rows))


def decimals_for(values: Iterable[float], significant: int = 4) -> int:
    """Decimals (2 to 4) that give the smallest non-zero value ``significant`` digits."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0.0]
    if not sizes:
        return 2
    return min(4, max(2, significant - 1 - math.floor(math.log10(min(sizes)))))


def number(value: float, decimals: int) -> str:
    """``value`` with fixed decimals; scientific where these would hide it, ``.`` if not finite."""
    if not math.isfinite(value):
        return _MISSING
    if value != 0.0 and (abs(value) < 10.0 ** (1 - decimals) or abs(value) >= 1e9):
        return f"{value:.2e}"
    text = f"{value:.{decimals}f}"
    return text[1:] if float(text) == 0.0 and text.startswith("-") else text


def share(value: float) -> str:
    """A correlation or a share with two decimals; ``.`` if it does not exist."""
    text = f"{value:.2f}" if math.isfinite(value) else _MISSING
    return "0.00" if text == "-0.00" else text


def short(value: float) -> str:
    """A number inside a sentence: four significant digits, no exponent where avoidable."""
    if not math.isfinite(value):
        return "not available"
    if value == 0.0:
        return "0"
    if abs(value) >= 1e9 or abs(value) < 1e-4:
        return f"{value:.2e}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 6)}f}"


def percent(part: float) -> str:
    """A share as a percentage with one decimal, ``0.1804 -> "18.0%"``."""
    return "not available" if not math.isfinite(part) else f"{100.0 * part:.1f}%"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``2 rows``."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def join_words(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]


def render_text(title: Sequence[str], sections: Iterable[Section], width: int = WIDTH) -> str:
    """Print title lines and sections as plain text, at most ``width`` characters wide."""
    out = [piece for line in title for piece in _wrap(line, width, "", _INDENT)]
    for section in sections:
        if section.is_empty:
            continue
        out += ["", section.heading]
        for line in section.lines:
            out += _wrap(line, width, _INDENT, _INDENT + "    ")
        if section.grid is not None and section.grid.rows:
            out += grid_lines(section.grid, width)
        for sentence in section.sentences:
            out += _wrap(sentence, width, _INDENT, _INDENT)
    return "\n".join(line.rstrip() for line in out)


def grid_lines(grid: Grid, width: int = WIDTH) -> list[str]:
    """Lay a grid out in aligned columns.

    Where it is too wide, titles of number columns go over several lines, then words of the first
    columns do.
    """
    k, n = grid.n_text_columns, len(grid.header)
    body = [list(row) for row in grid.rows]
    widths = [max(len(row[j]) for row in [list(grid.header), *body]) for j in range(n)]
    room = width - len(_INDENT) - len(_GAP) * (n - 1)
    if sum(widths) > room:
        for j in range(k, n):
            longest = max(map(len, grid.header[j].split()), default=0)
            widths[j] = max([longest, *(len(row[j]) for row in body)])
    while sum(widths) > room and max(widths[:k]) > _MIN_WORDS:
        widths[max(range(k), key=lambda j: widths[j])] -= 1
    lines = _lines_of(list(grid.header), widths, k)
    for row in body:
        lines += _lines_of(row, widths, k)
    return lines


def _lines_of(row: list[str], widths: list[int], k: int) -> list[str]:
    """One row over as many lines as its longest cell needs; numbers stand on the last."""
    cells = [textwrap.wrap(cell, max(w, 1)) or [""] for cell, w in zip(row, widths, strict=True)]
    height = max(map(len, cells))
    out = []
    for i in range(height):
        words = [c[i] if i < len(c) else "" for c in cells[:k]]
        numbers = [c[i - height + len(c)] if i >= height - len(c) else "" for c in cells[k:]]
        padded = [word.ljust(w) for word, w in zip(words, widths[:k], strict=True)]
        padded += [text.rjust(w) for text, w in zip(numbers, widths[k:], strict=True)]
        out.append(_INDENT + _GAP.join(padded))
    return out


def _wrap(text: str, width: int, first: str, later: str) -> list[str]:
    """Wrap at blanks, but not inside a call such as ``within(ses, school)``."""
    held = _CALL.sub(lambda call: call.group().replace(" ", _NO_BREAK), text)
    lines = textwrap.wrap(
        held, width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )
    return [line.replace(_NO_BREAK, " ") for line in lines] or [""]
