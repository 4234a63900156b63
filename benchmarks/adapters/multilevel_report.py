"""This package with its default: the error of the approximation is estimated too."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import multilevel
from benchmarks.adapters.multilevel import estimates, load
from benchmarks.models import Model

__all__ = ["PACKAGE", "estimates", "fit", "load"]

PACKAGE = multilevel.PACKAGE


def fit(table: Any, model: Model, threads: int) -> Any:
    """``mlm.fit`` as a user calls it."""
    del threads
    return multilevel.fit_generalized(table, model, "report")
