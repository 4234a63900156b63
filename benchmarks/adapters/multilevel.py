"""This package."""

from __future__ import annotations

from typing import Any

from benchmarks.adapters import multilevel_models as others
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
    if model.family in others.FAMILIES:
        return others.fit(table, model)
    if model.residual is not None:
        return mlm.fit(
            model.formula, table, method=model.method, residual=model.residual.text,
            allow=("not_certified",),
        )  # fmt: skip
    if model.family != "gaussian":
        return fit_generalized(table, model, "none")
    return mlm.fit(model.formula, table, method=model.method, allow=("not_certified",))


def fit_generalized(table: Any, model: Model, accuracy: str) -> Any:
    """The same for other outcomes; without the error estimate, which no other program makes."""
    import multilevel as mlm

    return mlm.fit(
        model.formula, table, family=model.family, n_quad=model.points, accuracy=accuracy,
        allow=("not_certified",),
    )  # fmt: skip


def refitter(table: Any, model: Model, new: Any, threads: int) -> Any:
    """The result's own ``refit``."""
    first = fit(table, model, threads)
    return lambda: first.refit(new)


def _extra(result: Any, model: Model) -> list[float]:
    """Thresholds, or the overdispersion of a negative binomial model."""
    from math import exp

    if model.family == "negative_binomial":
        return [exp(float(result.part("dispersion")["estimate"].iloc[0]))]
    cuts: list[float] = []
    for part in result.design.parts[1:]:
        value = float(result.part(part.spec.name)["estimate"].iloc[0])
        cuts.append(cuts[-1] + exp(value) if cuts else value)
    return cuts


def _residual(result: Any, model: Model) -> list[float]:
    """The autocorrelation, or the covariances of all visits relative to the residual variance."""
    if model.residual is None:
        return []
    if model.residual.structure == "ar1":
        return [float(result.residual_parameters()["estimate"].iloc[0])]
    covariance, _ = result.residual_covariance()
    relative = covariance.to_numpy() / result.residual_variance
    return [float(v) for v in relative.ravel()]


def estimates(result: Any, model: Model) -> dict[str, Any]:
    """Covariances by grouping factor, matched by the columns that form it."""
    if model.family in others.FAMILIES:
        return others.estimates(result, model)
    blocks = {frozenset(name.split(":")): block for name, block in result.random_covariance.items()}
    certificate = result.certificate
    if model.family not in ("gaussian", "structured"):
        return {
            "beta": [float(b) for b in result.fixed_effects],
            "sigma2": 1.0,
            "G": [blocks[frozenset(term.group)].to_numpy().tolist() for term in model.terms],
            "extra": _extra(result, model),
            "reported": float(result.minus2_loglik),
            "converged": bool(certificate.is_certified),
            "message": certificate.sentence,
        }
    return {
        "beta": [float(b) for b in result.fixed_effects],
        "sigma2": float(result.residual_variance),
        "G": [blocks[frozenset(term.group)].to_numpy().tolist() for term in model.terms],
        "reported": float(
            result.reml_criterion if model.method == "reml" else result.minus2_loglik
        ),
        "converged": bool(certificate.is_certified),
        "message": certificate.sentence,
        "extra": _residual(result, model),
        "monte_carlo_error": float(certificate.monte_carlo_error),
    }
