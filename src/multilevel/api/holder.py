"""What every group of methods of a fitted model holds on to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multilevel.errors import InferenceError
from multilevel.estimate.posterior import evaluated

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.gaussian.objective import GaussianObjective


_LOCATION_SCALE = (
    "variance_effects", "variance_range", "cluster_variances", "test_random_scale",
    "test_scale_correlation", "scale_correlations", "prediction_intervals", "plot_residual_sd",
    "variability_paragraph", "plot_location_scale",
)  # fmt: skip


class FitHolder:
    """The frozen problem and its fit; groups of methods inherit from it.

    Attributes
    ----------
    fit : the frozen numbers (``multilevel.estimate.records.Fit``).
    """

    _prepared: Prepared
    _labels: dict[str, str]
    fit: Fit
    _evaluated: GaussianObjective | None = None

    @property
    def design(self) -> Design:
        """The arrays that were analysed, with labels."""
        return self._prepared.design

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Say in words which fits have the methods of location-scale models."""
            if name in _LOCATION_SCALE:
                raise InferenceError(
                    f"{name}() answers for models in which clusters differ in their variance.",
                    "a fit without a bar in scale=",
                    'fit with scale="~ x + (1 | school)"; effects of predictors alone on the '
                    "variance are in residual_parameters(), variances of rows in row_variances()",
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _objective(self) -> GaussianObjective:
        """The objective factorised at the estimates; made once and kept (never pickled)."""
        if self._evaluated is None:
            self._evaluated = evaluated(self._prepared, self.fit)
        self._evaluated.ensure(self.fit.theta)
        return self._evaluated
