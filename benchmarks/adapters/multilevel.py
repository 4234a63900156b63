"""This package."""

from __future__ import annotations

from typing import Any

from benchmarks.models import Model

PACKAGE = "multilevel"


def load(columns: dict[str, Any], model: Model) -> Any:
    """A pandas table with integer ids."""
    import pandas as pd

    del model
    return pd.DataFrame(columns)


def refuse(columns: dict[str, Any], model: Model) -> str | None:
    """Every workload can be fitted."""
    del columns, model


def fit(table: Any, model: Model, threads: int) -> Any:
    """``mlm.fit`` as a user calls it; threads are set by the environment."""
    import multilevel as mlm

    del threads
    return mlm.fit(model.formula, table, method=model.method)
