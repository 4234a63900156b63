"""Designs and fits put together by hand, so that reports are tested without an engine."""

from __future__ import annotations

import numpy as np

from multilevel.design.records import Design, RandomBlock, RowReport
from multilevel.estimate.records import Certificate, Fit
from multilevel.model.covariance.structures import factor_map
from multilevel.model.specification import Model


def certificate(status="certified", **changes) -> Certificate:
    given = {
        "sentence": f"The verdict is {status}.",
        "newton_decrement": 1e-14,
        "max_scaled_gradient": 1e-7,
        "min_curvature": 0.4,
        "curvature": "exact",
        "boundary_residual": float("nan"),
        "redundant": (),
        "iterations": 4,
        "evaluations": 9,
        "restarts": 0,
    }
    return Certificate(status=status, **(given | changes))


def block(group, codes, columns, names, structure="unstructured") -> RandomBlock:
    columns = np.asfortranarray(np.column_stack(columns))
    codes = np.asarray(codes, dtype=np.int32)
    terms = structure if isinstance(structure, tuple) else ((len(names), structure),)
    levels = np.array([f"{group}{i}" for i in range(int(codes.max()) + 1)], dtype=object)
    return RandomBlock(group, codes, levels, columns, tuple(names), factor_map(terms))


def design(formula, columns, blocks, method="reml", **changes) -> Design:
    """``columns`` is ``{name: values}`` of the fixed effects, constant included."""
    n = len(blocks[0].codes)
    X = np.asfortranarray(np.column_stack(list(columns.values()))) if columns else np.zeros((n, 0))
    response = formula.split("~")[0].strip()
    model = Model(formula, response, "", (), method=method)
    given = {
        "offset": None,
        "weights": None,
        "rows": RowReport(n, np.arange(n), {}),
        "dropped_columns": {},
        "recipe": None,
    }
    y = np.linspace(0.0, 1.0, n)
    return Design(
        model=model, y=y, X=X, names=tuple(columns), blocks=tuple(blocks), **(given | changes)
    )


def fit(of: Design, beta, errors, G, sigma2, criterion=100.0, **changes) -> Fit:
    G = tuple(np.atleast_2d(np.asarray(g, dtype=float)) for g in G)
    n_theta = sum(b.structure.n_parameters for b in of.blocks)
    given = {"certificate": certificate(), "engine": "nested", "plan": "one factor", "seconds": {}}
    return Fit(
        method=of.model.method,
        n=of.n,
        n_fixed=len(of.names),
        criterion=criterion,
        beta=np.asarray(beta, dtype=float),
        vcov_beta=np.diag(np.asarray(errors, dtype=float) ** 2),
        theta=np.ones(n_theta),
        relative_factors=G,
        random_covariance=G,
        sigma2=sigma2,
        theta_curvature=np.eye(n_theta),
        **(given | changes),
    )


CODES = np.repeat(np.arange(12), 5)
N = len(CODES)
ONE = np.ones(N)
SES = np.tile([-1.0, -0.5, 0.0, 0.5, 1.2], 12) + 0.1 * CODES
SECTOR = (CODES % 2).astype(float)


def empty_model(method="reml", tau2=8.6, sigma2=39.1, **changes):
    """An empty means, random intercept model of 12 schools."""
    of = design(
        "mathach ~ 1 + (1 | school)",
        {"(Intercept)": ONE},
        [block("school", CODES, [ONE], ["(Intercept)"])],
        method,
    )
    return fit(of, [12.6], [0.24], [[[tau2]]], sigma2, **changes), of


def cross_level_model(method="reml", **changes):
    """A random slope of ses with sector as its moderator."""
    of = design(
        "mathach ~ ses * sector + (ses | school)",
        {"(Intercept)": ONE, "ses": SES, "sector": SECTOR, "ses:sector": SES * SECTOR},
        [block("school", CODES, [ONE, SES], ["(Intercept)", "ses"])],
        method,
    )
    G = [[4.0, -0.3], [-0.3, 0.25]]
    return fit(of, [11.5, 2.0, 1.5, -1.25], [0.2, 0.1, 0.3, 0.05], [G], 36.0, **changes), of
