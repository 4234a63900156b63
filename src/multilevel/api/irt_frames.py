"""Records of item response models as data frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.infer.distributions import normal_quantile, normal_tail
from multilevel.interpret.irt.compare import EasinessComparison
from multilevel.interpret.irt.curves import ItemCurves
from multilevel.interpret.irt.fit import MeanSquares
from multilevel.interpret.irt.parameters import ItemParameters, PersonParameters
from multilevel.interpret.irt.source import Effect, Pile

Array = NDArray[np.float64]


def items_frame(items: ItemParameters, conf_level: float, factor: float) -> pd.DataFrame:
    """One row per item and step; ``factor`` turns the units of the link into others."""
    own = items.item_of
    step = np.concatenate([np.arange(1, c) for c in items.n_categories])
    easiness, error = items.steps * factor, items.step_errors * factor
    half = float(normal_quantile(0.5 + conf_level / 2.0)) * error
    frame = pd.DataFrame(
        {
            "item": np.asarray(items.items, dtype=object)[own],
            "step": step,
            "n": items.n[own].astype(np.int64),
            "mean": items.mean_score[own],
            "easiness": easiness,
            "std_error": error,
            "conf_low": easiness - half,
            "conf_high": easiness + half,
            "difficulty": items.difficulty,
            "difficulty_std_error": items.difficulty_errors,
            "discrimination": items.slopes[own] * factor,
            "discrimination_std_error": items.slope_errors[own] * factor,
        }
    )
    if not items.has_slopes:
        # a slope of 1 is not a parameter; difficulty is easiness with its sign turned
        frame["difficulty"] = frame["difficulty"] * factor
        frame["difficulty_std_error"] = frame["difficulty_std_error"] * factor
        frame = frame.drop(columns=["discrimination", "discrimination_std_error"])
    if max(items.n_categories) == 2:
        frame = frame.drop(columns="step")
    frame.attrs["sentence"] = items.sentence
    return frame


def persons_frame(persons: PersonParameters) -> pd.DataFrame:
    """One row per person."""
    frame = pd.DataFrame(
        {
            "person": list(persons.persons),
            "n": persons.n.astype(np.int64),
            "score": persons.score,
            "estimate": persons.estimate,
            "std_error": persons.std_error,
        }
    )
    parts = "the person's own effect"
    if np.any(persons.predicted):
        frame["predicted"] = persons.predicted
        parts += ", what person predictors predict"
    if np.any(persons.group_effect):
        frame["group_effect"] = persons.group_effect
        parts += ", the effects of its groups"
    frame.attrs["sentence"] = (
        f"estimate ({persons.method}) adds up: {parts}; std_error is the posterior standard "
        "deviation of the person's own effect."
    )
    return frame


def effects_frame(effects: tuple[Effect, ...], conf_level: float) -> pd.DataFrame:
    """Fixed effects with z tests."""
    estimate = np.array([e.estimate for e in effects], dtype=np.float64)
    error = np.array([e.std_error for e in effects], dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = estimate / error
    half = float(normal_quantile(0.5 + conf_level / 2.0)) * error
    return pd.DataFrame(
        {
            "term": [e.term for e in effects],
            "estimate": estimate,
            "std_error": error,
            "statistic": z,
            "p_value": 2.0 * normal_tail(np.abs(z)),
            "conf_low": estimate - half,
            "conf_high": estimate + half,
        }
    )


def piles_frame(piles: tuple[Pile, ...]) -> pd.DataFrame:
    """Variances with their intraclass correlations."""
    return pd.DataFrame(
        {
            "group": [p.group for p in piles],
            "component": [p.component for p in piles],
            "estimate": [p.estimate for p in piles],
            "icc": [p.share for p in piles],
        }
    )


def squares_frame(found: MeanSquares, name: str, labels: tuple[object, ...]) -> pd.DataFrame:
    """Infit and outfit by item or person, with where 95% lie if the model holds."""
    infit, outfit = found.infit_range, found.outfit_range
    frame = pd.DataFrame(
        {
            name: list(labels),
            "n": found.n.astype(np.int64),
            "infit": found.infit,
            "infit_low": infit[0],
            "infit_high": infit[1],
            "outfit": found.outfit,
            "outfit_low": outfit[0],
            "outfit_high": outfit[1],
        }
    )
    frame.attrs["expected"] = 1.0
    frame.attrs["sentence"] = (
        "Mean squares have expected value 1: above it responses are noisier than the model says, "
        "below it more regular. low and high hold 95% of mean squares if the model is right."
    )
    return frame


def curves_frame(items: ItemParameters, curves: ItemCurves) -> pd.DataFrame:
    """One row per item, category and point."""
    I, C, K = curves.probabilities.shape
    frame = pd.DataFrame(
        {
            "item": np.repeat(np.asarray(items.items, dtype=object), C * K),
            "category": np.tile(np.repeat(np.arange(C), K), I),
            "theta": np.tile(curves.theta, I * C),
            "probability": curves.probabilities.ravel(),
        }
    )
    return frame.dropna(subset=["probability"]).reset_index(drop=True)


def information_frame(items: ItemParameters, curves: ItemCurves) -> pd.DataFrame:
    """Information by point: one column per item, and the test's with its standard error."""
    test = curves.test_information
    with np.errstate(divide="ignore"):
        error = 1.0 / np.sqrt(test)
    frame = pd.DataFrame(
        {"theta": curves.theta, "test": test, "std_error": error, "expected": curves.test_score}
    )
    own = pd.DataFrame(curves.information.T, columns=list(items.items))
    out = pd.concat([frame, own], axis=1)
    out.attrs["sentence"] = (
        "test is the sum over items; std_error = 1 / sqrt(test) is that of the maximum-likelihood "
        "estimate of a person who answers all items; expected is the expected sum score."
    )
    return out


def easiness_frame(found: EasinessComparison) -> pd.DataFrame:
    """Correlations between models; ``attrs["easiness"]`` has the easiness itself."""
    names = list(found.names)
    frame = pd.DataFrame(found.correlations, index=names, columns=names)
    frame.attrs["easiness"] = pd.DataFrame(
        found.easiness, index=pd.Index(list(found.items), name="item"), columns=names
    )
    return frame
