"""GPBoost with exact factorisation in place of its default stochastic likelihood."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import gpboost
from benchmarks.adapters.gpboost import estimates, load, refuse
from benchmarks.models import Model

__all__ = ["PACKAGE", "estimates", "fit", "load", "refuse"]

PACKAGE = gpboost.PACKAGE


def fit(table: Any, model: Model, threads: int) -> Any:
    """As `gpboost.fit`, with ``matrix_inversion_method="cholesky"``."""
    return gpboost.fit(table, model, threads, inversion="cholesky")
