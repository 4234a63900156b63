"""This package with chi-square and fit indices of a structural model."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import multilevel
from benchmarks.adapters.multilevel import estimates, load
from benchmarks.models import Model

__all__ = ["PACKAGE", "estimates", "fit", "load"]

PACKAGE = multilevel.PACKAGE


def fit(table: Any, model: Model, threads: int) -> Any:
    """Fit, standard errors and the measures of fit."""
    result = multilevel.fit(table, model, threads)
    _ = result[0].fit_measures
    return result
