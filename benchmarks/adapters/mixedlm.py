"""mixedlm (PyPI): lme4's methods in Python and Rust. Default settings."""

from __future__ import annotations

from typing import Any

from benchmarks.models import Model

PACKAGE = "mixedlm"


def load(columns: dict[str, Any], model: Model) -> Any:
    """A pandas table with integer ids."""
    import pandas as pd

    del model
    return pd.DataFrame(columns)


def refuse(columns: dict[str, Any], model: Model) -> str | None:
    """Quadrature for one random intercept only."""
    del columns
    if model.points > 1 and (len(model.terms) > 1 or model.terms[0].slopes):
        return "quadrature for one random intercept only"
    return None


def fit(table: Any, model: Model, threads: int) -> Any:
    """``mixedlm.lmer``; threads are set by the environment."""
    import mixedlm

    del threads
    if model.family != "gaussian":
        from mixedlm.families import Binomial, Poisson

        family = {"binomial": Binomial, "poisson": Poisson}[model.family]()
        return mixedlm.glmer(model.formula, table, family=family, nAGQ=model.points)
    return mixedlm.lmer(model.formula, table, REML=model.method == "reml")


def refitter(table: Any, model: Model, new: Any, threads: int) -> Any:
    """The result's own ``refit``."""
    first = fit(table, model, threads)
    return lambda: first.refit(new)


def estimates(result: Any, model: Model) -> dict[str, Any]:
    """Covariances by grouping factor, matched by the columns that form it."""
    blocks = {frozenset(b.grouping_factor.split(":")): b for b in result.VarCorr().groups.values()}
    return {
        "beta": [float(b) for b in result.beta],
        "sigma2": float(result.get_sigma()) ** 2 if model.family == "gaussian" else 1.0,
        "G": [blocks[frozenset(term.group)].cov.tolist() for term in model.terms],
        "reported": float(result.REMLcrit() if model.method == "reml" else result.get_deviance()),
        "converged": bool(result.converged),
    }
