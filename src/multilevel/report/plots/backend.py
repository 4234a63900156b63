"""One look for every picture, and how many marks it may hold.

Colours are those of Okabe & Ito 2008 (Color Universal Design), which stay apart for readers with
any common kind of colour blindness.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from plotnine import ggplot as ggplot

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY, INK = "#56B4E9", "#CC79A7", "#8C8C8C", "#222222"
PALETTE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY)

#: No picture draws more marks (points, bars, ends of segments) than this, whatever the data.
MAX_MARKS = 10_000
#: Rows shown as points.
MAX_POINTS = 3_000

#: Characters of a caption per inch of the picture's width.
_CAPTION_DENSITY = 16.2
_WIDTH, _HEIGHT, _DPI = 7.0, 4.6, 110
#: One fixed seed, so that the same fit always gives the same picture.
_SEED = 20_240_229


def sample_rows(n: int, most: int = MAX_POINTS) -> NDArray[np.intp]:
    """At most ``most`` of ``n`` positions, a simple random sample under a fixed seed, sorted."""
    if n <= most:
        return np.arange(n, dtype=np.intp)
    rng = np.random.default_rng(_SEED)
    return np.sort(rng.choice(n, size=most, replace=False)).astype(np.intp)


def spread_rows(n: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` of ``n`` ranks, evenly spaced, both ends kept."""
    if n <= most:
        return np.arange(n, dtype=np.intp)
    return np.unique(np.linspace(0, n - 1, most).round().astype(np.intp))


def point_size(n: int) -> float:
    """Size of a point that is seen among few and does not blot among many."""
    return 2.0 if n <= 600 else 1.2


def caption(*sentences: str, width: float = _WIDTH) -> str:
    """Sentences under a picture, wrapped to its width in inches."""
    text = " ".join(" ".join(sentences).split())
    return textwrap.fill(text, max(20, int(_CAPTION_DENSITY * width)))


def drawn_of(shown: int, total: int, noun: str) -> str:
    """``3000 of 7185 rows are drawn.``; empty if all are."""
    return "" if shown >= total else f"{shown} of {total} {noun} are drawn."


def look(*, legend: str = "right") -> Any:
    """The theme of every picture: white ground, thin grid, text that is read at default size."""
    import plotnine as p9

    return p9.theme_minimal(base_size=11) + p9.theme(
        figure_size=(_WIDTH, _HEIGHT),
        dpi=_DPI,
        legend_position=legend,
        panel_grid_minor=p9.element_blank(),
        panel_grid_major=p9.element_line(color="#E6E6E6", size=0.5),
        panel_border=p9.element_rect(color="#BBBBBB", fill=None, size=0.6),
        plot_background=p9.element_rect(fill="white", color="white"),
        plot_title=p9.element_text(size=12.5, weight="bold", ha="left"),
        plot_caption=p9.element_text(size=8, color="#555555", ha="left"),
        plot_title_position="plot",
        plot_caption_position="plot",
        strip_text=p9.element_text(size=10, color=INK),
        strip_background=p9.element_blank(),
        axis_text=p9.element_text(size=9, color="#444444"),
    )


def to_png(picture: ggplot, *, dpi: int = 130) -> bytes:
    """A picture as PNG bytes; nothing is shown on a display."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Fonts that lack a sign fall back to another; the picture is complete either way.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        picture.save(buffer, format="png", dpi=dpi, verbose=False)
    return buffer.getvalue()
