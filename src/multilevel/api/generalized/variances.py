"""Methods of a generalized fit about its variances, and the overview of its checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import pandas as pd

from multilevel.api.effects import sentence_frame
from multilevel.api.frames import frame_of_records
from multilevel.api.generalized.diagnose import GeneralizedDiagnosticMethods
from multilevel.errors import InferenceError
from multilevel.interpret.diagnosis import Diagnosis, about_effects, distance_p_values
from multilevel.interpret.generalized.diagnosis import (
    effect_sets,
    generalized_normality,
    normality_sets,
    overview,
)
from multilevel.interpret.generalized.latent import ObservationLevel
from multilevel.interpret.generalized.variances import (
    GeneralizedComponent,
    generalized_components,
    generalized_reliabilities,
    generalized_variance_function,
)
from multilevel.interpret.normality import Normality, quantiles
from multilevel.interpret.reliability import Reliability
from multilevel.interpret.variance_function import VarianceAt


class GeneralizedVarianceMethods(GeneralizedDiagnosticMethods):
    """Variance components, reliability, variance along predictors, distributions, overview."""

    def variance_components(self) -> pd.DataFrame:
        """Variances and covariances on the link scale: ``group, term, term2, variance, sd,
        correlation``.

        ``term2`` is empty for a variance; for a covariance ``variance`` holds the covariance. The
        row ``residual`` is the level-1 variance where it is one number: fixed by the link for
        binary and ordered responses (``pi^2/3`` for a logit), estimated for normal ones.
        """
        return frame_of_records(generalized_components(self._evidence()), GeneralizedComponent)

    def reliability(self) -> pd.DataFrame:
        """Reliability of the predicted random effects: mean and range over the levels.

        Frame ``group, term, component, estimate, minimum, maximum, n_clusters``; ``component`` is
        ``"prediction"``: ``1 - Var(b | y) / tau``, the squared correlation of a random effect and
        its prediction (for persons crossed with items: the marginal reliability of the scores).

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach > 13 ~ 1 + (1 | school)", mlm.load_hsb(), family="binomial")
        >>> round(float(m.reliability()["estimate"][0]), 2)
        0.88
        """
        return sentence_frame(generalized_reliabilities(self._evidence()), Reliability)

    def variance_function(
        self,
        term: str,
        values: Sequence[float] | None = None,
        *,
        group: str | None = None,
        conf_level: float = 0.95,
        level: ObservationLevel = "lognormal",
    ) -> pd.DataFrame:
        """Latent variance and latent ICC at values of a predictor with a random slope.

        Parameters
        ----------
        term : the random slope by name; other random slopes of its factor are held at 0.
        values : default five values over the observed range.
        group : the grouping factor, where the slope varies over several.
        level : form of the observation-level variance of log links, as in ``icc``.

        Returns
        -------
        Frame ``value, between, total, estimate (the latent ICC), std_error, conf_low,
        conf_high``; ``attrs["minimum"]`` is where the variance is smallest.
        """
        found = generalized_variance_function(
            self._evidence(), term, values, group, conf_level, level
        )
        out = frame_of_records(found.rows, VarianceAt)
        out.attrs["minimum"], out.attrs["minimum_total"] = found.minimum, found.minimum_total
        out.attrs["sentence"] = found.sentence
        return out

    def random_effect_diagnostics(self) -> pd.DataFrame:
        """Standardised predicted random effects, one row per group, level and term.

        Columns ``group, level, term, estimate, std`` (over the standard deviation of the
        prediction), ``distance, df, p_value``: the level's squared distance over all its effects,
        chi-squared.
        """
        effects = effect_sets(self._evidence())
        if not effects:
            raise InferenceError(
                "Diagnostics of random effects need random effects.",
                "a model without any",
                "add a random term such as (1 | school) to the formula",
            )
        frames = []
        for effect in effects:
            J, q = effect.estimates.shape
            frames.append(
                pd.DataFrame(
                    {
                        "group": effect.group,
                        "level": np.repeat(np.asarray(effect.levels, dtype=object), q),
                        "term": list(effect.names) * J,
                        "estimate": effect.estimates.reshape(-1),
                        "std": effect.std.reshape(-1),
                        "distance": np.repeat(effect.distance, q),
                        "df": np.repeat(effect.rank, q),
                        "p_value": np.repeat(distance_p_values(effect), q),
                    }
                )
            )
        out = pd.concat(frames, ignore_index=True)
        out.attrs["sentence"] = " ".join(one.sentence for one in about_effects(effects))
        return out

    def normality(self, *, seed: int | np.random.Generator = 0) -> pd.DataFrame:
        """Shape and tests of randomised quantile residuals and standardised random effects.

        Columns ``group, term, n, skewness, excess_kurtosis, shapiro, shapiro_p, anderson,
        anderson_p, sentence``. Quantile residuals are normal under the model whatever the family;
        ``seed`` is that of their randomisation.
        """
        found = generalized_normality(self._evidence(), np.random.default_rng(seed))
        return frame_of_records(found, Normality)

    def quantile_plot_data(self, *, seed: int | np.random.Generator = 0) -> pd.DataFrame:
        """Points of the normal quantile plots: ``group, term, position, theoretical, sample``."""
        frames = []
        for one in normality_sets(self._evidence(), np.random.default_rng(seed)):
            points = quantiles(*one)
            frames.append(
                pd.DataFrame(
                    {
                        "group": points.group,
                        "term": points.term,
                        "position": points.positions,
                        "theoretical": points.theoretical,
                        "sample": points.sample,
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    def diagnose(self, *, seed: int = 0) -> Diagnosis:
        """One readable overview: approximation, checks, random effects, influence, advice."""
        texts = [str(one) for one in self.advice]
        return overview(self._evidence(), texts, np.random.default_rng(seed))


def _refusing(name: str, must: str, call: str) -> Callable[..., NoReturn]:
    """A method that says why it has no sound answer here, and what to use."""

    def method(self: GeneralizedVarianceMethods, *_args: object, **_options: object) -> NoReturn:
        raise InferenceError(must, f"{name}() of a {self.design.family.label} model", f"use {call}")

    method.__name__ = name
    method.__doc__ = f"Not defined here: {must} Raises ``InferenceError``; use ``{call}``."
    return method


#: Methods of linear fits that have no sound answer here: why, and what to use.
ELSEWHERE: dict[str, tuple[str, str]] = {
    "intraclass_correlations": (
        "An intraclass correlation belongs to a scale here.",
        "icc(scale=...)",
    ),
    "comparisons": (
        "A difference of expected responses depends on all predictors here.",
        "average_comparisons(variable)",
    ),
    "cluster_covariance": (
        "The covariance of responses depends on their means here.",
        'random_covariance for G, or icc("observation") for the correlation of two responses',
    ),
    "conditional_aic": (
        "The conditional AIC of Vaida & Blanchard 2005 is for normal residuals.",
        "aic",
    ),
    "heteroscedasticity": (
        "The variance of the response follows its mean here.",
        'checks(), or a model for the dispersion: fit(..., dispersion="~ group")',
    ),
    "row_diagnostics": (
        "Leverage of rows is defined for linear models.",
        "residuals(kind) for rows and influence() for clusters",
    ),
    "residual_autocorrelation": (
        "Residuals that are correlated in time belong to linear models.",
        'residuals("quantile") by time, or a random effect such as ar1(0 + time | id)',
    ),
}
for _name, (_must, _call) in ELSEWHERE.items():
    setattr(GeneralizedVarianceMethods, _name, _refusing(_name, _must, _call))
