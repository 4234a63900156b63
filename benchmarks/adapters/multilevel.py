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


def fit(table: Any, model: Model, threads: int) -> Any:
    """``mlm.fit`` as a user calls it; threads are set by the environment.

    A fit that is not certified is measured too, and reported as not converged.
    """
    import multilevel as mlm

    del threads
    return mlm.fit(model.formula, table, method=model.method, allow=("not_certified",))


def refitter(table: Any, model: Model, new: Any, threads: int) -> Any:
    """The result's own ``refit``."""
    first = fit(table, model, threads)
    return lambda: first.refit(new)


def estimates(result: Any, model: Model) -> dict[str, Any]:
    """Covariances by grouping factor, matched by the columns that form it."""
    blocks = {frozenset(name.split(":")): block for name, block in result.random_covariance.items()}
    criterion = result.reml_criterion if model.method == "reml" else result.minus2_loglik
    certificate = result.certificate
    return {
        "beta": [float(b) for b in result.fixed_effects],
        "sigma2": float(result.residual_variance),
        "G": [blocks[frozenset(term.group)].to_numpy().tolist() for term in model.terms],
        "reported": float(criterion),
        "converged": bool(certificate.is_certified),
        "message": certificate.sentence,
        "monte_carlo_error": float(certificate.monte_carlo_error),
    }
