"""The fitted item response model that users hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.irt_frames import (
    curves_frame,
    easiness_frame,
    effects_frame,
    information_frame,
    items_frame,
    persons_frame,
    piles_frame,
    squares_frame,
)
from multilevel.api.irt_words import ItemWordsMethods
from multilevel.errors import InferenceError
from multilevel.infer.means_tests import check_level
from multilevel.interpret.irt.compare import (
    LOGITS_PER_PROBIT,
    compare_easiness,
    item_explained,
    item_residual_test,
)
from multilevel.interpret.irt.curves import ItemCurves, default_theta, item_curves
from multilevel.interpret.irt.fit import mean_squares
from multilevel.interpret.irt.nested import slope_model_test
from multilevel.interpret.irt.parameters import ItemParameters, reliability
from multilevel.interpret.irt.source import SlopeSource, item_variance
from multilevel.report.html import render_html
from multilevel.report.irt import ItemReport, item_sections, item_title
from multilevel.report.layout import WIDTH, render_text

if TYPE_CHECKING:
    from multilevel.api.generalized.result import GeneralizedMultilevelFit
    from multilevel.estimate.records import Certificate

Array = NDArray[np.float64]
Metric = Literal["link", "logit", "probit"]


class ItemResponseFit(ItemWordsMethods):
    """A fitted item response model; printing it gives the summary.

    ``multilevel.irt`` makes it. ``easiness`` is the predictor of an item for a person at 0,
    ``difficulty`` the place on the person axis where it is zero: minus easiness, divided by the
    discrimination where that is estimated.

    Attributes
    ----------
    model : the ``GeneralizedMultilevelFit`` behind it, with all its methods; None for models with
        slopes, which ``fit`` does not have.
    """

    def __init__(self, report: ItemReport, model: GeneralizedMultilevelFit | None = None) -> None:
        self._report, self.model = report, model
        self._source = report.source

    # -- words ---------------------------------------------------------------------------------

    @property
    def call(self) -> str:
        """The call of ``fit`` that this model stands for; ``""`` for models with slopes."""
        return self._report.call

    def summary(self, *, verbose: bool = False, width: int = WIDTH) -> str:
        """The summary as text, in the terms of item response models; ``model.summary()`` is that
        of the multilevel model."""
        return render_text(item_title(self._report), item_sections(self._report, verbose), width)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(item_title(self._report), item_sections(self._report))

    # -- numbers -------------------------------------------------------------------------------

    @property
    def minus2_loglik(self) -> float:
        """Minus twice the log-likelihood."""
        return self._source.criterion

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        return self._source.n_parameters

    @property
    def aic(self) -> float:
        """-2LL + 2 parameters."""
        return self.minus2_loglik + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """-2LL + log(responses) parameters."""
        return self.minus2_loglik + float(np.log(self.n)) * self.n_parameters

    @property
    def n(self) -> int:
        """Responses."""
        return self._source.n_responses

    @property
    def certificate(self) -> Certificate:
        """Evidence that the estimates are the optimum."""
        return self._source.certificate

    # -- tables --------------------------------------------------------------------------------

    def items(self, *, conf_level: float = 0.95, metric: Metric = "link") -> pd.DataFrame:
        """Items: ``item, (step,) n, mean, easiness, std_error, conf_low, conf_high, difficulty,
        difficulty_std_error`` and, where estimated, ``discrimination`` with its error.

        Parameters
        ----------
        metric : ``"link"`` as fitted; ``"logit"`` or ``"probit"`` convert by the factor 1.7
            (logistic(1.7 z) is close to the normal ogive). Difficulties of models with slopes are
            in standard deviations of persons and do not change.

        Examples
        --------
        >>> import multilevel as mlm
        >>> rasch = mlm.irt(mlm.load_verbagg(), person="id", response="r2")
        >>> rasch.items()["item"].iloc[0], int(rasch.items()["n"].iloc[0])
        ('S1DoCurse', 316)
        """
        check_level(conf_level)
        found = self._items()
        if metric not in ("link", "logit", "probit"):
            raise InferenceError(
                "The metric is 'link', 'logit' or 'probit'.", repr(metric), "choose one"
            )
        factor = 1.0
        if metric != "link" and metric != found.link:
            factor = LOGITS_PER_PROBIT if metric == "logit" else 1.0 / LOGITS_PER_PROBIT
        return items_frame(found, conf_level, factor)

    def persons(self) -> pd.DataFrame:
        """Persons: ``person, n, score, estimate, std_error`` and what the estimate is made of.

        Raises ``InferenceError`` for models without random persons.
        """
        return persons_frame(self._source.persons())

    def reliability(self) -> pd.DataFrame:
        """Reliability of person estimates, one row: ``tau2 / (tau2 + mean error variance)``, and
        ``marginal = 1 - mean posterior variance / tau2``; ``attrs["sentence"]`` in words."""
        found = reliability(self._source.persons())
        frame = pd.DataFrame(
            {
                "estimate": [found.estimate],
                "marginal": [found.marginal],
                "variance": [found.variance],
                "error_variance": [found.error_variance],
            }
        )
        frame.attrs["sentence"] = found.sentence
        return frame

    def coefficients(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Fixed effects other than those of single items: features, person predictors, DIF."""
        check_level(conf_level)
        return effects_frame(self._source.effects(), conf_level)

    def variances(self) -> pd.DataFrame:
        """Variances ``group, component, estimate`` with the latent ``icc`` of each."""
        return piles_frame(self._source.piles())

    # -- curves and fit ------------------------------------------------------------------------

    def curves(self, theta: Sequence[float] | Array | None = None) -> pd.DataFrame:
        """Category probabilities ``item, category, theta, probability`` along the person axis."""
        items = self._items()
        return curves_frame(items, self._curves(items, theta))

    def information(self, theta: Sequence[float] | Array | None = None) -> pd.DataFrame:
        """Information of the test and of each item along the person axis, with the standard error
        of a person estimate."""
        items = self._items()
        return information_frame(items, self._curves(items, theta))

    def item_fit(self) -> pd.DataFrame:
        """Infit and outfit mean squares of the items; expected value 1."""
        return self._item_fit_table()

    def person_fit(self) -> pd.DataFrame:
        """Infit and outfit mean squares of the persons; expected value 1."""
        moments, _, person = self._source.moments()
        labels = self._source.persons().persons
        return squares_frame(mean_squares(moments, person, len(labels)), "person", labels)

    # -- comparisons ---------------------------------------------------------------------------

    def compare_easiness(self, name: str = "this model", **others: ItemResponseFit) -> pd.DataFrame:
        """Correlations of easiness between this model and others; ``attrs["easiness"]`` has the
        easiness by item (the mean of the steps where there are several)."""
        models = {name: self._items(), **{key: one._items() for key, one in others.items()}}
        return easiness_frame(compare_easiness(models))

    def item_r2(self, empty: ItemResponseFit) -> pd.DataFrame:
        """Share of the item variance of ``empty`` (random items without features) that the item
        features of this model explain; ``attrs["sentence"]`` in words."""
        found = item_explained(
            item_variance(empty._source, empty._report.words.item),
            item_variance(self._source, self._report.words.item),
        )
        frame = pd.DataFrame(
            {"estimate": [found.estimate], "empty": [found.empty], "residual": [found.residual]}
        )
        frame.attrs["sentence"] = found.sentence
        return frame

    def item_residual_test(self, without: ItemResponseFit) -> pd.DataFrame:
        """Likelihood-ratio test of this model's item residual against ``without`` it (the LLTM),
        by the 50:50 mixture of chi2(0) and chi2(1)."""
        item_variance(self._source, self._report.words.item)
        if self.n_parameters - without.n_parameters != 1 or self.n != without.n:
            raise InferenceError(
                "The two models must differ by the item residual alone, on the same responses.",
                f"{self.n_parameters} against {without.n_parameters} parameters, {self.n} against "
                f"{without.n} responses",
                'compare model="lltm_error" with model="lltm", all else equal and n_quad=1',
            )
        found = item_residual_test(without.minus2_loglik, self.minus2_loglik)
        frame = pd.DataFrame(
            {
                "statistic": [found.statistic],
                "df": [found.distribution],
                "p_value": [found.p_value],
            }
        )
        frame.attrs["sentence"] = found.sentence
        return frame

    def likelihood_ratio_test(self, smaller: ItemResponseFit) -> pd.DataFrame:
        """Test of this model with slopes against a smaller one, one row: ``statistic, df, p_value,
        distribution``; ``attrs["sentence"]`` in words.

        2PL against 1PL, a model with DIF, person predictors or groups of persons (a mixture)
        against one without. Models without slopes: ``multilevel.compare(m0, m1)``.

        Raises
        ------
        InferenceError : models by rows; other responses; models that are not nested.
        """
        pairs = []
        for found in (smaller, self):
            if not isinstance(found._source, SlopeSource):
                raise InferenceError(
                    "This test is for two models with slopes.",
                    f"model={found._report.words.model!r}, which is fitted by rows",
                    'write multilevel.compare(m0, m1); model="1pl" is the Rasch model among the '
                    "models with slopes",
                )
            pairs.append((found._report.words, found._source))
        test = slope_model_test(pairs[0], pairs[1])
        frame = pd.DataFrame(
            {
                "statistic": [test.statistic],
                "df": [test.df],
                "p_value": [test.p_value],
                "distribution": [test.distribution],
            }
        )
        frame.attrs["sentence"] = test.sentence
        return frame

    # -- pictures ------------------------------------------------------------------------------

    def plot(self, name: str = "wright", **options: Any) -> Any:
        """Draw a picture: ``"wright"`` (persons and items on one axis), ``"curves"``
        (characteristic curves), ``"information"``, ``"item_fit"``, ``"person_fit"``,
        ``"easiness"`` (against another model: ``other=``).

        Options: ``items=[...]`` for curves and information, ``other=`` for easiness. Returns a
        ``plotnine.ggplot``; ``.save("name.png")`` writes it.
        """
        from multilevel.report.plots.irt import check_item_picture, draw_item_picture

        check_item_picture(name, options)
        other = options.pop("other", None)
        if other is not None:
            options["other"] = other._source
        return draw_item_picture(name, self._source, options)

    # -- inside --------------------------------------------------------------------------------

    def _items(self) -> ItemParameters:
        return self._source.items()

    def _curves(self, items: ItemParameters, theta: Sequence[float] | Array | None) -> ItemCurves:
        axis = default_theta(items) if theta is None else np.asarray(theta, dtype=np.float64)
        if axis.ndim != 1 or not np.all(np.isfinite(axis)):
            raise InferenceError(
                "theta is a list of finite numbers.", f"shape {axis.shape}", "write theta=[-1, 0]"
            )
        return item_curves(items, axis)
