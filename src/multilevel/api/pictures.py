"""Pictures and reports of a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multilevel.api.holder import FitHolder
from multilevel.estimate.posterior import random_effects
from multilevel.report.plots.catalogue import check_picture, draw, draw_piles
from multilevel.report.plots.source import PictureSource

if TYPE_CHECKING:
    from multilevel.report.plots.backend import ggplot


class PictureMethods(FitHolder):
    """Methods that draw or write a fit down."""

    def _picture_source(self) -> PictureSource:
        effects = random_effects(self._prepared, self.fit)
        return PictureSource(self.design, self.fit, effects)

    def plot(self, name: str, **options: Any) -> ggplot:
        """Draw a picture of the fit; the plotnine object returned can be changed or saved.

        Parameters
        ----------
        name, options : the picture and what it takes:

            - ``"clusters"`` (``predictor, group``): predicted line of each cluster over the data.
            - ``"slopes"`` (``predictor, moderator``): simple slopes with 95% bands.
            - ``"johnson_neyman"`` (``predictor, moderator``): slope along its moderator, and where
              it differs from zero.
            - ``"caterpillar"`` (``group, term``): random effects with 95% intervals.
            - ``"variance"`` (``predictor``): variance of the outcome along a random slope.
            - ``"piles"`` (``models, names``): piles of variance of ``models`` (earlier fits) and
              this one.
            - ``"residuals"`` (``group``): quantiles, spread and clusters of residuals.
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
        return draw(name, self._picture_source(), options)
