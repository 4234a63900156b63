"""Reports, pictures and words of a fit with structured residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.frames import frame_of_records
from multilevel.api.structured_holder import refuse
from multilevel.api.structured_rows import StructuredRowMethods
from multilevel.infer.profile_curve import ProfileCurves
from multilevel.infer.residual_profile import structured_curves
from multilevel.interpret.autocorrelation import LagCorrelation, lag_correlations, time_of
from multilevel.interpret.explained_variance import Explained
from multilevel.interpret.intraclass import check_level
from multilevel.interpret.residual_icc import (
    CellShare,
    relative_variances,
    shares_in_words,
    structured_explained,
    structured_shares,
)
from multilevel.report.plots.catalogue import check_picture, draw, draw_piles
from multilevel.report.plots.source import PictureSource

if TYPE_CHECKING:
    from multilevel.report.plots.backend import ggplot

Array = NDArray[np.float64]


class StructuredWordMethods(StructuredRowMethods):
    """What can be read and seen of the fit."""

    def _picture_source(self) -> PictureSource:
        return replace(super()._picture_source(), scaled=self.residuals("normalised"))

    def plot(self, name: str, **options: Any) -> ggplot:
        """Draw a picture of the fit; names and options as in ``MultilevelFit.plot``.

        ``"residuals"`` shows normalised residuals; ``"autocorrelation"`` the correlation of
        standardised and of normalised residuals over time (what is there, and what is left of
        it); ``"profile"`` (``components`` among ``"fixed"``, ``"sd"``, ``"residual"``) has the
        residual parameters too. ``"variance"`` and ``"piles"`` take the residual variance of the
        average row.
        """
        check_picture(name, options)
        if name == "piles":
            fits = [*options.get("models", ()), self]
            titles = options.get("names") or [f"model {k}" for k in range(1, len(fits) + 1)]
            return draw_piles([_averaged(fit) for fit in fits], list(titles))
        if name == "variance":
            return draw(name, _averaged(self), options)
        return super().plot(name, **options)

    def _profile_curves(self, components: Sequence[str] | None) -> ProfileCurves:
        return structured_curves(self._structured, self._prepared, self.fit, self._psi, components)

    def _lag_series(
        self, time: str | None, group: str | None
    ) -> tuple[dict[str, Sequence[LagCorrelation]], str]:
        term = self._structured.layout.term
        places: Array
        if time is not None or group is not None or term is None or not term.factors:
            found = time_of(self.design, time, group)
            places, codes, words = found.values, found.codes, f"distance in {found.name}"
            by_rank = False
        else:
            layout = self._structured.layout
            # compound symmetry has no time: its rows are in the order of the table
            by_rank = not term.coordinates
            places = (
                layout.position
                if term.coordinates
                else np.arange(self.design.n, dtype=np.float64)[:, None]
            )
            scale = layout.time.step if np.isfinite(layout.time.step) else 1.0
            places, codes = places * scale, layout.codes
            by_rank = by_rank or term.structure in ("un", "fa")
            where = " and ".join(term.coordinates)
            words = "rows apart" if by_rank else f"distance in {where}"
        return {
            kind: lag_correlations(self.residuals(kind), codes, places, by_rank=by_rank)
            for kind in ("standardised", "normalised")
        }, words

    def icc(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Share of each grouping factor in the variance of a row.

        Frame ``group, component, at, estimate, std_error, conf_low, conf_high``: over all analysed
        rows (averages of numerator and denominator), then for each occasion or category of ``by``
        with a residual variance of its own. ``attrs["sentence"]`` in words.

        Raises
        ------
        InferenceError : no random effects.
        """
        level = check_level(conf_level)
        found = structured_shares(self._structured, self.fit, self._psi, level)
        out = frame_of_records(found, CellShare)
        out.attrs["sentence"] = shares_in_words(found)
        return out

    def r2(self, *compared_with: Any, **options: Any) -> pd.DataFrame:
        """Explained variance: total, marginal and conditional (Nakagawa & Schielzeth).

        Frame ``measure, group, term, component, estimate, sentence``; the residual variance is its
        average over the analysed rows. Measures by level, comparison models and intervals are not
        available for such a model.
        """
        if compared_with or options:
            refuse("r2() with a comparison model or intervals", "write r2()")
        phi = self._psi[len(self.fit.theta) :]
        return frame_of_records(structured_explained(self._structured, self.fit, phi), Explained)

    def _effect_tables(self) -> dict[str, pd.DataFrame]:
        """Residual parameters, shares of variance and ranges of random effects."""
        found = {"Intervals of residual parameters": self.residual_parameters()}
        if not self.design.blocks:
            return found
        return {
            **found,
            "Shares of variance": self.icc(),
            "Where 95% of clusters lie": self.random_intervals(),
        }


def _averaged(fit: Any) -> PictureSource:
    """What a picture is made from, with the residual variance of the average row."""
    source: PictureSource = fit._picture_source()
    if not isinstance(fit, StructuredWordMethods):
        return source
    phi = fit._psi[len(fit.fit.theta) :]
    mean = fit.fit.sigma2 * float(relative_variances(fit._structured.layout, phi).mean())
    return replace(source, fit=replace(fit.fit, sigma2=mean))
