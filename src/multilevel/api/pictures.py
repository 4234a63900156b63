"""Pictures and reports of a fitted model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from multilevel import __version__
from multilevel.api.effects import EffectMethods
from multilevel.api.frames import frame_of_records
from multilevel.api.means import MeansMethods
from multilevel.api.rows import RowMethods
from multilevel.errors import InferenceError
from multilevel.estimate.posterior import random_effects
from multilevel.infer.profile_curve import ProfileCurves, check_components, profile_curves
from multilevel.interpret.autocorrelation import LagCorrelation, lag_correlations, time_of
from multilevel.report.document import Document, Picture, build_document
from multilevel.report.methods_paragraph import methods_paragraph
from multilevel.report.plots.catalogue import (
    PICTURES,
    WITH_BANDS,
    check_picture,
    draw,
    draw_autocorrelation,
    draw_piles,
    draw_profile,
    pictures_for,
)
from multilevel.report.plots.source import PictureSource
from multilevel.report.write import check_report_path, write_document

if TYPE_CHECKING:
    from multilevel.infer.degrees_of_freedom import DfMethod
    from multilevel.report.plots.backend import ggplot


class PictureMethods(EffectMethods, MeansMethods, RowMethods):
    """Methods that draw or write a fit down."""

    _shows_advice: bool

    def _picture_source(self) -> PictureSource:
        effects = random_effects(self._prepared, self.fit)
        return PictureSource(self.design, self.fit, effects)

    def _slope_source(self, df: str | None) -> PictureSource:
        return replace(self._picture_source(), approach=self._approach(df))

    def plot(self, name: str, **options: Any) -> ggplot:
        """Draw a picture of the fit; the plotnine object returned can be changed or saved.

        Parameters
        ----------
        name, options : the picture and what it takes:

            - ``"clusters"`` (``predictor, group``): predicted line of each cluster over the data.
            - ``"slopes"`` (``predictor, moderator, df``): simple slopes with 95% bands.
            - ``"johnson_neyman"`` (``predictor, moderator, df``): slope along its moderator, and
              where it differs from zero.
            - ``"caterpillar"`` (``group, term``): random effects with 95% intervals.
            - ``"variance"`` (``predictor``): variance of the outcome along a random slope.
            - ``"piles"`` (``models, names``): piles of variance of ``models`` (earlier fits) and
              this one.
            - ``"residuals"`` (``group``): quantiles, spread and clusters of residuals.
            - ``"autocorrelation"`` (``time, group``): correlation of residuals over time.
            - ``"profile"`` (``components``, as in ``confint``): signed root of the rise of the
              criterion along each parameter, with limits at 50, 80, 90, 95 and 99%; where it
              bends, Wald intervals fail. Takes seconds.
            - ``"spaghetti"`` (``predictor, group``): raw data by cluster, nothing of the model.

        Returns
        -------
        plotnine.ggplot : at most 10,000 marks whatever the size of the data; its caption says
        what was sampled. ``.save("name.png")`` writes it.

        Raises
        ------
        InferenceError : an unknown picture or option, or one that this model cannot give.
        MissingPackageError : plotnine is not installed.

        Examples
        --------
        >>> import multilevel as mlm
        >>> result = mlm.fit("mathach ~ ses + (ses | school)", mlm.load_hsb())
        >>> picture = result.plot("clusters", predictor="ses")
        >>> picture.labels.x
        'ses'
        """
        check_picture(name, options)
        if name == "piles":
            fits = [*options.get("models", ()), self]
            titles = options.get("names") or [f"model {k}" for k in range(1, len(fits) + 1)]
            return draw_piles([fit._picture_source() for fit in fits], list(titles))
        if name == "profile":
            return draw_profile(self._profile_curves(options.get("components")), self.fit.method)
        if name == "autocorrelation":
            series, words = self._lag_series(options.get("time"), options.get("group"))
            return draw_autocorrelation(series, words)
        if name not in WITH_BANDS:
            return draw(name, self._picture_source(), options)
        others = {key: value for key, value in options.items() if key != "df"}
        return draw(name, self._slope_source(options.get("df")), others)

    def _lag_series(
        self, time: str | None, group: str | None
    ) -> tuple[dict[str, Sequence[LagCorrelation]], str]:
        """Correlations of residuals over time by kind of residual, and what the distance is."""
        found = time_of(self.design, time, group)
        z = self.residuals("standardised")
        words = f"distance in {found.name}"
        return {"standardised": lag_correlations(z, found.codes, found.values)}, words

    def residual_autocorrelation(
        self, time: str | None = None, group: str | None = None
    ) -> pd.DataFrame:
        """Correlation of residuals by their distance in time, and the semivariogram.

        Parameters
        ----------
        time, group : a numeric predictor that orders the rows, and the factor whose rows are
            paired. Default: those of the residual structure, else a predictor that has steps and
            takes each value once in a level of the factor.

        Returns
        -------
        Frame ``kind, lag, n_pairs, correlation, semivariance, bound``: 95% of correlations lie
        within ``bound`` of zero if residuals are independent; semivariances are then one.

        Raises
        ------
        InferenceError : no such predictor or factor.

        Examples
        --------
        >>> import multilevel as mlm
        >>> data = {"y": [1.0, 2.1, 2.9, 4.2] * 3, "t": [0, 1, 2, 3] * 3}
        >>> data["id"] = [name for name in "abc" for _ in range(4)]
        >>> data["y"] = [y + k % 5 for k, y in enumerate(data["y"])]
        >>> m = mlm.fit("y ~ t + (1 | id)", data, method="ml")
        >>> m.residual_autocorrelation()["lag"].tolist()
        [1.0, 2.0]
        """
        series, words = self._lag_series(time, group)
        frames = []
        for kind, found in series.items():
            frame = frame_of_records(found, LagCorrelation)
            frame.insert(0, "kind", kind)
            frames.append(frame)
        out = pd.concat(frames, ignore_index=True)
        outside = int((out["correlation"].abs() > out["bound"]).sum())
        out.attrs["sentence"] = (
            f"Correlation of residuals by {words}: {outside} of {len(out)} lie outside the limits"
            " of independent residuals (95%)."
        )
        return out

    def _profile_curves(self, components: Sequence[str] | None) -> ProfileCurves:
        wanted = check_components(components)
        return profile_curves(self._prepared, self.fit, self._objective(), wanted)

    def methods_paragraph(self) -> str:
        """A paragraph for the methods section, every number of it read from this fit.

        Examples
        --------
        >>> import multilevel as mlm
        >>> result = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> "7185 rows from 160 levels of school" in result.methods_paragraph()
        True
        """
        return methods_paragraph(self.fit, self.design, self.coefficients(), __version__)

    def report(
        self, path: str | Path, *, pictures: bool = True, df: DfMethod | None = None
    ) -> Path:
        """Write the fit down as one document: .html, .md, .docx or .tex, by the suffix.

        It holds the equations, the design, both sides of the model, the fit, what the numbers say
        in words, the evidence of convergence, advice, pictures and a methods paragraph. The HTML
        file needs nothing besides itself; LaTeX gets its pictures as files beside it.

        Parameters
        ----------
        path : file to write; an existing one is replaced.
        pictures : whether pictures are drawn (a second or two).
        df : method of degrees of freedom (see ``coefficients``).

        Returns
        -------
        The path.

        Raises
        ------
        InferenceError : an unknown suffix, or a folder that does not exist.
        MissingPackageError : plotnine or python-docx is needed and not installed.

        Examples
        --------
        >>> import multilevel as mlm, tempfile, pathlib
        >>> result = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> result.report(folder / "hsb.md", pictures=False).name
        'hsb.md'
        """
        target = check_report_path(path)
        return write_document(self._document(pictures, df), target)

    def _document(self, pictures: bool, df: DfMethod | None) -> Document:
        drawn: list[Picture] = []
        if pictures:
            check_picture("residuals", {})
            from multilevel.report.plots.backend import to_png

            source = self._picture_source()
            for name in pictures_for(source):
                words = PICTURES[name][0]
                made = self._slope_source(df) if name in WITH_BANDS else source
                drawn.append(Picture(name, words.capitalize(), to_png(draw(name, made, {}))))
        return build_document(
            self.fit,
            self.design,
            self.coefficients(df),
            labels=self._labels,
            pictures=drawn,
            tables=self._effect_tables(),
            shows_advice=self._shows_advice,
            version=__version__,
        )

    def _effect_tables(self) -> dict[str, pd.DataFrame]:
        """Effect sizes by heading; one that this fit cannot give says why."""
        if not self.design.blocks:
            return {}
        wanted = {
            "Intraclass correlations": self.icc,
            "Reliability of cluster estimates": self.reliability,
            "Where 95% of clusters lie": self.random_intervals,
            "Explained variance": self.r2,
        }
        found = {}
        for heading, ask in wanted.items():
            try:
                table = ask()
            except InferenceError as error:
                table = pd.DataFrame()
                table.attrs["sentence"] = f"Not available: {error.must}"
            found[heading] = table
        return found
