"""Hand-made designs and fits for the rooms that read a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.design.records import Design, RandomBlock, RowReport
from multilevel.estimate.records import Certificate, Fit
from multilevel.model.covariance.structures import factor_map
from multilevel.model.specification import Model


def block(group, codes, columns, names=("(Intercept)",), structure="unstructured", levels=None):
    codes = np.asarray(codes, dtype=np.int32)
    columns = np.asfortranarray(np.asarray(columns, dtype=float).reshape(len(codes), -1))
    n_levels = int(codes.max()) + 1
    if levels is None:
        levels = np.asarray([f"{group}{i}" for i in range(n_levels)], dtype=object)
    return RandomBlock(
        group, codes, levels, columns, tuple(names), factor_map(((columns.shape[1], structure),))
    )


def design(y, X, names, blocks, offset=None, weights=None, formula="y ~ x + (1 | g)"):
    y = np.asarray(y, dtype=float)
    return Design(
        Model(formula, "y", "1", ()),
        y,
        np.asfortranarray(np.asarray(X, dtype=float).reshape(len(y), -1)),
        tuple(names),
        tuple(blocks),
        offset,
        weights,
        RowReport(len(y), np.arange(len(y))),
        {},
        None,
    )


def certificate(status="certified", redundant=(), sentence="Fine."):
    return Certificate(
        status, sentence, 0.0, 0.0, 1.0, "exact", float("nan"), tuple(redundant), 1, 1, 0
    )


def fit(beta, factors, sigma2, vcov=None, cert=None, n=10):
    beta = np.asarray(beta, dtype=float)
    factors = tuple(np.asarray(f, dtype=float) for f in factors)
    return Fit(
        method="reml",
        n=n,
        n_fixed=len(beta),
        criterion=0.0,
        beta=beta,
        vcov_beta=np.eye(len(beta)) if vcov is None else vcov,
        theta=np.ones(sum(f.shape[0] * (f.shape[0] + 1) // 2 for f in factors)),
        relative_factors=factors,
        random_covariance=tuple(sigma2 * f @ f.T for f in factors),
        sigma2=sigma2,
        theta_curvature=np.eye(1),
        certificate=cert or certificate(),
        engine="oracle",
        plan="by hand",
    )


@dataclass(frozen=True)
class Effects:
    """Random effects with covariances given outright."""

    estimates: np.ndarray
    comparative: np.ndarray
    prediction: np.ndarray

    def covariance(self, levels=None):
        return self.comparative if levels is None else self.comparative[levels]

    def prediction_covariance(self, levels=None):
        return self.prediction if levels is None else self.prediction[levels]
