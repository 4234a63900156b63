"""Pictures of a fitted generalized model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multilevel.api.generalized.predictions import EvidenceHolder
from multilevel.report.plots.generalized.catalogue import draw

if TYPE_CHECKING:
    from multilevel.report.plots.backend import ggplot


class GeneralizedPictureMethods(EvidenceHolder):
    """Methods that draw a fit."""

    def plot(self, name: str, **options: Any) -> ggplot:
        """Draw a picture of the fit; the plotnine object returned can be changed or saved.

        Parameters
        ----------
        name, options : the picture and what it takes:

            - ``"expected"`` (``predictor, conf_level``): expected response along a predictor, for
              random effects of zero and averaged over them, with bands.
            - ``"clusters"`` (``predictor, group``): the same curve of each cluster.
            - ``"categories"`` (``predictor, kind``): probabilities of the categories, stacked.
            - ``"caterpillar"`` (``group, term``): random effects with 95% intervals.
            - ``"calibration"`` (``n_bins``): observed against expected responses.
            - ``"rootogram"`` (``seed``): observed counts hung from the expected ones.
            - ``"quantile_residuals"`` (``seed``): against normal quantiles and along the
              expected response.

        Returns
        -------
        plotnine.ggplot : ``.save("name.png")`` writes it.

        Raises
        ------
        InferenceError : an unknown picture or option, or one that this model cannot give.
        MissingPackageError : plotnine is not installed.
        """
        return draw(name, self._evidence(), options)
