"""Items and persons of a fitted item response model, in one form for all models.

An item with categories 0..S has predictors ``t_s = a theta + d_s``; ``a`` is its slope
(discrimination; 1 where it is not estimated), ``d_s`` the easiness of step s, and
``b_s = -d_s / a`` its difficulty: the place on the person axis where ``t_s`` is zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.irt import ItemFit
from multilevel.likelihood.generalized.irt_categories import ItemKind, ItemLink
from multilevel.tables.responses import ResponseMatrix

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ItemParameters:
    """Items on the scale of the link; T = sum of (C_i - 1) steps.

    Attributes
    ----------
    items : I labels.
    n_categories : C_i.
    kind, link : how predictors make probabilities, see ``category_tables``.
    slopes : (I,).
    steps : (T,) easiness of every step.
    vcov : (I + T, I + T) covariance of slopes and steps; zero for slopes that are fixed.
    n : (I,) responses.
    mean_score : (I,) mean of the category numbers (the proportion, for two categories).
    theta_variance : variance of the person effect on this scale (given person predictors).
    has_slopes : whether slopes were estimated.
    sentence : what easiness and its standard errors mean here.
    """

    items: tuple[str, ...]
    n_categories: tuple[int, ...]
    kind: ItemKind
    link: ItemLink
    slopes: Array
    steps: Array
    vcov: Array
    n: Array
    mean_score: Array
    theta_variance: float
    has_slopes: bool
    sentence: str

    @property
    def item_of(self) -> NDArray[np.intp]:
        """(T,) the item of each step."""
        return np.repeat(np.arange(len(self.items)), np.asarray(self.n_categories) - 1)

    @property
    def step_errors(self) -> Array:
        """(T,) standard errors of the steps."""
        return np.asarray(np.sqrt(np.diag(self.vcov)[len(self.items) :]))

    @property
    def slope_errors(self) -> Array:
        """(I,) standard errors of the slopes."""
        return np.asarray(np.sqrt(np.diag(self.vcov)[: len(self.items)]))

    @property
    def difficulty(self) -> Array:
        """(T,) ``-d / a``."""
        return np.asarray(-self.steps / self.slopes[self.item_of])

    @property
    def difficulty_errors(self) -> Array:
        """(T,) standard errors of ``-d / a`` by the delta method."""
        own, n_items = self.item_of, len(self.items)
        a, d = self.slopes[own], self.steps
        at = n_items + np.arange(len(d))
        variance = (
            self.vcov[at, at] / a**2
            + d**2 * self.vcov[own, own] / a**4
            - 2.0 * d * self.vcov[own, at] / a**3
        )
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    def item_easiness(self) -> Array:
        """(I,) mean easiness of the steps of each item."""
        sums = np.bincount(self.item_of, weights=self.steps, minlength=len(self.items))
        return np.asarray(sums / (np.asarray(self.n_categories) - 1))

    def standardised(self) -> ItemParameters:
        """The same items for a person effect of variance 1: slopes times its SD."""
        scale = np.ones(len(self.vcov))
        sd = float(np.sqrt(self.theta_variance))
        scale[: len(self.items)] = sd
        return replace(
            self,
            slopes=self.slopes * sd,
            vcov=self.vcov * np.outer(scale, scale),
            theta_variance=1.0,
        )


@dataclass(frozen=True)
class PersonParameters:
    """Persons on the scale of the link.

    Attributes
    ----------
    persons : labels.
    n, score : responses and their sum (categories count 0, 1, ...).
    estimate : the person effect: predicted + group + own.
    std_error : posterior standard deviation of the person's own effect.
    predicted : ``x' gamma`` of person predictors (0 without).
    group_effect : effects of the groups that the person belongs to (0 without).
    variance : variance of the own effect.
    method : ``"mode"`` or ``"EAP"``.
    """

    persons: tuple[Any, ...]
    n: Array
    score: Array
    estimate: Array
    std_error: Array
    predicted: Array
    group_effect: Array
    variance: float
    method: str


@dataclass(frozen=True)
class Reliability:
    """Reliability of person estimates.

    Attributes
    ----------
    estimate : ``tau2 / (tau2 + mean error variance)``, the error variance of a person being that
        of the responses alone, ``1 / (1 / posterior variance - 1 / tau2)``.
    marginal : ``1 - mean posterior variance / tau2``.
    variance : tau2.
    error_variance : the mean error variance.
    sentence : in words.
    """

    estimate: float
    marginal: float
    variance: float
    error_variance: float
    sentence: str


def reliability(persons: PersonParameters) -> Reliability:
    """Reliability of the person estimates (Adams 2005 gives the marginal form).

    NaN where persons do not vary.
    """
    tau2 = persons.variance
    posterior = persons.std_error**2
    if not tau2 > 0.0:
        return Reliability(
            np.nan, np.nan, tau2, np.nan, "Persons do not vary, so nothing can be reliable."
        )
    with np.errstate(divide="ignore"):
        error = 1.0 / np.maximum(1.0 / posterior - 1.0 / tau2, 1e-300)
    mean = float(error.mean())
    value = tau2 / (tau2 + mean)
    marginal = float(1.0 - posterior.mean() / tau2)
    return Reliability(
        value, marginal, tau2, mean,
        f"Reliability of the person estimates is {value:.2f}: person variance {tau2:.3f} against "
        f"a mean error variance of {mean:.3f}.",
    )  # fmt: skip


def parameters_of_items(
    fit: ItemFit, matrix: ResponseMatrix, *, has_variants: bool = False
) -> ItemParameters:
    """Items of a model with slopes; ``has_variants`` as where the predictor of DIF is zero."""
    problem = fit.problem
    counts = tuple(len(own) for own in matrix.categories)
    n_items, T = len(counts), sum(counts) - len(counts)
    a, d, _ = problem.slices
    J = np.zeros((n_items + T, len(fit.psi)))
    J[:n_items, a] = problem.slopes[:n_items]
    J[n_items:, d] = np.eye(T, problem.easiness.shape[1]) if has_variants else problem.easiness
    both, vcov = J @ fit.psi, J @ fit.vcov @ J.T
    seen = matrix.codes >= 0
    grouped = problem.groups is not None
    who = "Persons of one group have variance 1" if grouped else "Persons have variance 1"
    where = ", the predictor of DIF at 0" if has_variants else ""
    return ItemParameters(
        items=matrix.items,
        n_categories=counts,
        kind=problem.kind,
        link=problem.link,
        slopes=both[:n_items],
        steps=both[n_items:],
        vcov=vcov,
        n=seen.sum(axis=0).astype(np.float64),
        mean_score=np.where(seen, matrix.codes, 0).sum(axis=0) / seen.sum(axis=0),
        theta_variance=1.0,
        has_slopes=True,
        sentence=f"{who}; easiness is the predictor of a person at 0{where}, difficulty "
        "= -easiness / discrimination; standard errors from the observed information.",
    )


def persons_of_items(fit: ItemFit, matrix: ResponseMatrix) -> PersonParameters:
    """Persons of a model with slopes: posterior means (EAP)."""
    seen = matrix.codes >= 0
    predicted = (fit.problem.x @ fit.gamma)[fit.problem.pattern_of]
    return PersonParameters(
        persons=matrix.persons,
        n=seen.sum(axis=1).astype(np.float64),
        score=np.where(seen, matrix.codes, 0).sum(axis=1).astype(np.float64),
        estimate=fit.mean,
        std_error=fit.std_dev,
        predicted=predicted,
        group_effect=fit.group_effect,
        variance=1.0,
        method="EAP",
    )
