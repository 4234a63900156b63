"""REML-type fits of location-scale models: what users hold, and what such a fit cannot give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pandas as pd

from multilevel.api.generalized.location_scale import LocationScaleFit
from multilevel.api.generalized.result import GeneralizedMultilevelFit
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.restricted import restrict


def refuse(what: str) -> NoReturn:
    """Say that a question needs the likelihood of a fit by ML.

    Raises
    ------
    InferenceError : always.
    """
    raise InferenceError(
        f"{what} needs the likelihood, or refits by maximum likelihood.",
        'a REML-type fit (method="reml") of a location-scale model',
        'ask the fit by method="ml"',
    )


class RestrictedScaleFit(LocationScaleFit):
    """A location-scale model by REML-type estimation, ``method="reml"``.

    The fixed effects of the means are integrated out by Laplace's approximation at their profile
    maximum (adjusted profile likelihood of Cox & Reid 1987), so variances of few clusters are less
    biased downwards. Tests are Wald tests; likelihood-ratio tests, profiles, bootstraps and
    comparisons belong to the fit by ML.
    """

    @property
    def reml_criterion(self) -> float:
        """The adjusted profile criterion, ``-2 log L + log|I_beta| - p log 2 pi``."""
        return self.fit.criterion

    def variability_paragraph(self, *, tests: bool = False) -> str:
        """Who varies more; likelihood-ratio tests (``tests=True``) need the fit by ML."""
        if tests:
            refuse("variability_paragraph(tests=True)")
        return super().variability_paragraph(tests=False)

    def confint(self, method: Any = "wald", **options: Any) -> pd.DataFrame:
        """Wald intervals, as ``LocationScaleFit.confint("wald")``."""
        if method != "wald":
            refuse(f"confint({method!r})")
        return super().confint("wald", **options)


def restricted(found: GeneralizedMultilevelFit) -> RestrictedScaleFit:
    """The REML-type fit that starts at a fit by ML.

    Raises
    ------
    EstimationError : see ``estimate.generalized.restricted.restrict``.
    """
    return RestrictedScaleFit(
        found._prepared, restrict(found._prepared, found.fit), labels=found._labels,
        shows_advice=found._shows_advice, allow=found._allow,
    )  # fmt: skip


def _refusing(name: str) -> Callable[..., Any] | property:
    def method(self: RestrictedScaleFit, *_args: Any, **_options: Any) -> NoReturn:
        refuse(f"{name}()")

    method.__name__ = name
    method.__doc__ = "Belongs to the fit by maximum likelihood (``InferenceError``)."
    return property(method) if isinstance(getattr(LocationScaleFit, name), property) else method


#: Inherited methods that rest on the estimates and their covariance alone; all others are refused.
INHERITED = frozenset({
    "advice", "aic", "anova", "approximation", "average_comparisons", "average_slopes", "bic",
    "certificate",
    "cluster_variances", "coefficients", "comparisons", "contrast", "design", "equations", "family",
    "fitted", "fixed_effects", "groups", "icc", "is_singular", "johnson_neyman", "marginal_means",
    "methods_paragraph", "n", "n_parameters", "pairwise_comparisons", "part", "plot",
    "plot_location_scale", "plot_residual_sd", "predict", "prediction_intervals",
    "random_covariance", "random_effects", "random_intervals", "report", "residuals",
    "row_variances", "rows", "scale_correlations", "sections", "simulate", "slopes", "summary",
    "test", "to_dict", "to_json", "variance_components", "variance_effects", "variance_range",
    "vcov", "vcov_fixed",
})  # fmt: skip

for _name in dir(LocationScaleFit):
    is_its_own = getattr(RestrictedScaleFit, _name) is not getattr(LocationScaleFit, _name)
    if not _name.startswith("_") and _name not in INHERITED and not is_its_own:
        setattr(RestrictedScaleFit, _name, _refusing(_name))
