"""lme-python (PyPI): lme4's methods in Rust. Default settings."""

from __future__ import annotations

from typing import Any

from benchmarks.models import Model, Term

PACKAGE = "lme_python"


def load(columns: dict[str, Any], model: Model) -> Any:
    """A polars table with integer ids."""
    import polars as pl

    del model
    return pl.DataFrame(columns)


def fit(table: Any, model: Model, threads: int) -> Any:
    """``lme_python.lmer``; threads are set by the environment."""
    import lme_python

    del threads
    if model.family != "gaussian":
        return lme_python.glmer(model.formula, table, model.family, n_agq=model.points)
    return lme_python.lmer(model.formula, table, reml=model.method == "reml")


def refitter(table: Any, model: Model, new: Any, threads: int) -> Any:
    """``prepare_lmer`` once, then its ``fit`` with a new response."""
    import lme_python

    del threads
    prepared = lme_python.prepare_lmer(model.formula, table)
    response = new.tolist()
    return lambda: prepared.fit(y=response, reml=model.method == "reml")


def _block(entries: list[Any], term: Term) -> list[list[float]]:
    names = ["(Intercept)", *term.slopes]
    mine = {
        frozenset((first, second)): value
        for group, first, second, value, _ in entries
        if frozenset(group.split(":")) == frozenset(term.group)
    }
    return [[float(mine.get(frozenset((a, b)), 0.0)) for b in names] for a in names]


def estimates(result: Any, model: Model) -> dict[str, Any]:
    """Variances and covariances as listed in ``var_corr``."""
    reported = result.reml_criterion if model.method == "reml" else -2.0 * result.log_likelihood
    return {
        "beta": [float(b) for b in result.coefficients],
        "sigma2": float(result.sigma2) if model.family == "gaussian" else 1.0,
        "G": [_block(result.var_corr, term) for term in model.terms],
        "reported": float(reported),
        "converged": bool(result.converged),
    }
