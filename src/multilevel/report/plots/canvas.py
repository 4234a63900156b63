"""The picture that users hold: a plotnine object whose caption keeps inside its width."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import plotnine as p9

from multilevel.report.plots.backend import caption


class Canvas(p9.ggplot):  # type: ignore[misc]
    """A ``plotnine.ggplot`` that wraps its caption to the size at which it is drawn."""

    def draw(self, *, show: bool = False) -> Any:
        """Draw as plotnine does, the caption wrapped to the figure's width."""
        fitted = deepcopy(self)
        text = fitted.labels.get("caption", "")
        if text:
            width = float(fitted.theme.getp("figure_size")[0])
            fitted.labels.caption = caption(text, width=width)
        return super(Canvas, fitted).draw(show=show)
