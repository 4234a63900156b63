"""Structural models at the boundary, and tests of the variances of random slopes."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING

from multilevel.api.frames import frame_of_records
from multilevel.infer.structural_slope_tests import SlopeTest, slope_tests

if TYPE_CHECKING:
    import pandas as pd

    from multilevel.estimate.structural import StructuralFit, StructuralProblem


class StructuralBoundMethods(ABC):
    """Methods about variances that may be zero."""

    problem: StructuralProblem
    fit: StructuralFit

    @property
    def boundary(self) -> tuple[str, ...]:
        """What is estimated at the boundary (variances of zero, correlations of one), in words."""
        return self.fit.boundary.sentences if self.fit.boundary is not None else ()

    def slope_tests(self) -> pd.DataFrame:
        """Does each random slope vary over clusters? Likelihood-ratio tests against a fixed slope.

        The variance cannot be negative, so that the null distribution with k covariances is a
        50:50 mixture of chi2(k) and chi2(k + 1) (Stram & Lee 1994).

        Columns: ``slope, outcome, predictor, statistic, n_covariances, distribution, p_value``
        (of the mixture; NaN where it is not defined), ``p_naive`` (chi2(k + 1), too large),
        ``sentence``, ``level``: with three levels a slope is tested at each at which it varies.

        Raises
        ------
        InferenceError : a model without random slopes, or one with impossible variances.
        EstimationError : a smaller model that cannot be estimated.
        """
        return frame_of_records(slope_tests(self.problem, self.fit), SlopeTest)
