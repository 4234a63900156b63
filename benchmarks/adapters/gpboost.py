"""GPBoost's mixed models: maximum likelihood, independent random effects only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from benchmarks.models import Model

PACKAGE = "gpboost"


class Arrays(NamedTuple):
    """What ``GPModel`` takes: groups (n, terms), slopes (n, k), their terms, X (n, p), y (n,)."""

    groups: Any
    slopes: Any
    slope_terms: list[int]
    X: Any
    y: Any


def load(columns: dict[str, Any], model: Model) -> Arrays:
    """Plain arrays; a nested factor gets its own compact id."""
    from benchmarks.levels import level_codes

    groups = np.column_stack([level_codes(columns, term.group) for term in model.terms])
    slopes = [(t + 1, columns[s]) for t, term in enumerate(model.terms) for s in term.slopes]
    n = len(columns[model.response])
    return Arrays(
        groups,
        np.column_stack([s for _, s in slopes]) if slopes else None,
        [t for t, _ in slopes],
        np.column_stack([np.ones(n), *(columns[name] for name in model.fixed)]),
        columns[model.response],
    )


def refuse(columns: dict[str, Any], model: Model) -> str | None:
    """No REML, no covariance between random effects."""
    del columns
    if model.method == "reml" or any(t.slopes and t.correlated for t in model.terms):
        return "only maximum likelihood with independent random effects"
    return None


def fit(table: Arrays, model: Model, threads: int, inversion: str = "default") -> Any:
    """Build and fit a ``GPModel``."""
    import gpboost

    likelihood = {"binomial": "bernoulli_logit"}.get(model.family, model.family)
    slopes = {}
    if table.slopes is not None:
        slopes = {
            "group_rand_coef_data": table.slopes,
            "ind_effect_group_rand_coef": table.slope_terms,
        }
    built = gpboost.GPModel(
        group_data=table.groups,
        likelihood=likelihood,
        num_parallel_threads=threads,
        matrix_inversion_method=inversion,
        **slopes,
    )
    return built.fit(y=table.y, X=table.X)


def estimates(result: Any, model: Model) -> dict[str, Any]:
    """Variances: error, one for each grouping column, one for each slope."""
    values = [float(v) for v in np.asarray(result.get_cov_pars()).ravel()]
    is_plain = model.family == "gaussian"
    if not is_plain:
        values = [1.0, *values]  # no error variance is listed
    slopes = iter(values[1 + len(model.terms) :])
    G = [
        np.diag([values[1 + t], *(next(slopes) for _ in term.slopes)]).tolist()
        for t, term in enumerate(model.terms)
    ]
    return {
        "beta": [float(b) for b in np.asarray(result.get_coef()).ravel()],
        "sigma2": values[0],
        "G": G,
        "extra": [1.0 / float(v) for v in result.get_aux_pars().to_numpy().ravel()]
        if model.family == "negative_binomial"
        else [],
        "reported": 2.0 * float(result.get_current_neg_log_likelihood()),
        "converged": None,
    }
