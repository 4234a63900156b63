"""Item response models against each other: easiness, explained item variance, item residual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.mixture import one_variance
from multilevel.interpret.irt.parameters import ItemParameters

Array = NDArray[np.float64]
#: Logits per unit of the normal ogive (Birnbaum 1968): ``logistic(1.7 z)`` is close to ``Phi(z)``.
LOGITS_PER_PROBIT = 1.7


@dataclass(frozen=True)
class EasinessComparison:
    """Easiness of the same items in several models.

    Attributes
    ----------
    names : models; items : labels.
    easiness : (I, M).
    correlations : (M, M); NaN for a model in which easiness does not vary.
    """

    names: tuple[str, ...]
    items: tuple[str, ...]
    easiness: Array
    correlations: Array


def compare_easiness(models: Mapping[str, ItemParameters]) -> EasinessComparison:
    """Correlations of easiness across models.

    Raises
    ------
    InferenceError : fewer than two models, or other items.
    """
    if len(models) < 2:
        raise InferenceError(
            "A comparison of easiness needs two models or more.", f"{len(models)}", "name another"
        )
    names = tuple(models)
    items = models[names[0]].items
    columns = []
    for name in names:
        if set(models[name].items) != set(items):
            raise InferenceError(
                "Models whose easiness is compared must have the same items.",
                f"{name} has other items than {names[0]}",
                "fit them to the same responses",
            )
        place = [models[name].items.index(item) for item in items]
        columns.append(models[name].item_easiness()[place])
    easiness = np.column_stack(columns)
    spread = easiness.std(axis=0)
    flat = spread <= 1e-10 * max(float(spread.max()), 1e-300)
    z = (easiness - easiness.mean(axis=0)) / np.where(flat, np.nan, spread)
    correlations = z.T @ z / len(items)
    return EasinessComparison(names, items, easiness, correlations)


@dataclass(frozen=True)
class ItemExplained:
    """Share of item variance that item features explain.

    Attributes
    ----------
    estimate : ``(tau2 empty - tau2 with features) / tau2 empty``.
    empty, residual : the two variances.
    sentence : in words.
    """

    estimate: float
    empty: float
    residual: float
    sentence: str


def item_explained(empty: float, residual: float) -> ItemExplained:
    """Pseudo-R2 of item features.

    Raises
    ------
    InferenceError : no item variance to explain.
    """
    if not empty > 0.0:
        raise InferenceError(
            "Items must vary before their variance can be explained.",
            f"item variance {empty:g} without features",
            'give the model fitted with model="random_items"',
        )
    value = (empty - residual) / empty
    return ItemExplained(
        value, empty, residual,
        f"Item features explain {100.0 * value:.1f}% of the item variance ({empty:.3f} without "
        f"them, {residual:.3f} with them).",
    )  # fmt: skip


@dataclass(frozen=True)
class ItemResidualTest:
    """Likelihood-ratio test of the item residual.

    Attributes
    ----------
    statistic : difference of -2LL.
    p_value : from the 50:50 mixture of chi2(0) and chi2(1).
    distribution : the null distribution in words.
    sentence : in words.
    """

    statistic: float
    p_value: float
    distribution: str
    sentence: str


def item_residual_test(without: float, with_residual: float) -> ItemResidualTest:
    """Is the item residual still needed beside item features? From the -2LL of both models.

    Raises
    ------
    InferenceError : the larger model fits worse, so the two are not nested.
    """
    statistic = without - with_residual
    if statistic < -1e-4:
        raise InferenceError(
            "The model with the item residual cannot fit worse than the one without.",
            f"-2LL {with_residual:.4f} with, {without:.4f} without",
            "fit both to the same rows, with the same features and n_quad=1",
        )
    null = one_variance(0)
    statistic = max(statistic, 0.0)
    p = null.p_value(statistic)
    verdict = (
        "item features leave differences between items unexplained"
        if p < 0.05
        else "no evidence that items differ beyond their features"
    )
    shown = f"p = {p:.3f}" if p >= 0.001 else "p < .001"
    return ItemResidualTest(
        statistic, p, null.sentence,
        f"Item residual: -2 delta LL = {statistic:.2f}, {shown} ({null.sentence}): {verdict}.",
    )  # fmt: skip
