r"""Average slopes and contrasts on the scale of the response.

The expected response of every analysed row is computed with the predictor a little higher and a
little lower (or at two values), everything else as observed, and the differences are averaged.
``"marginal"`` expectations average over the random effects first: the population-averaged effect;
``"population"`` ones hold them at zero, ``"conditional"`` ones at their estimates: unit-specific
effects. Standard errors by the delta method (conditional: random effects held at their estimates).
Source: Norton, Dowd & Maciejewski 2019 (JAMA 321:1304); Skrondal & Rabe-Hesketh 2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows
from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile, normal_tail
from multilevel.infer.means_tests import check_level
from multilevel.interpret.generalized.delta import delta_covariance
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    add_effects,
    fixed_predictors,
    predictor_covariance,
)
from multilevel.interpret.generalized.integrate import average
from multilevel.interpret.generalized.predict import (
    KIND_WORDS,
    check_request,
    names_of,
    quantity_of,
)
from multilevel.interpret.generalized.settings import Settings
from multilevel.interpret.simple_slopes import p_words

Array = NDArray[np.float64]
#: Rows that averages are taken over; more are thinned evenly.
MOST_ROWS = 2000
STEP = 1e-3


@dataclass(frozen=True)
class AverageEffect:
    """One average slope or contrast.

    Attributes
    ----------
    term : the predictor; component : ``"slope"``, or the two values compared.
    category : of the response, or empty; kind : see the module's text.
    estimate, std_error, statistic, p_value, conf_low, conf_high : z test, delta method.
    sentence : in words.
    """

    term: str
    component: str
    category: str
    kind: str
    estimate: float
    std_error: float
    statistic: float
    p_value: float
    conf_low: float
    conf_high: float
    sentence: str


def average_slopes(
    evidence: GeneralizedEvidence,
    focal: str,
    at: Mapping[str, Any] | None = None,
    kind: str = "marginal",
    conf_level: float = 0.95,
) -> tuple[AverageEffect, ...]:
    """Average slope of a numeric predictor on the scale of the response.

    Parameters
    ----------
    focal : the predictor, in any part of the model; random slopes move with it.
    at : ``{predictor: value}`` that every row gets.
    kind : ``"marginal"``, ``"population"`` or ``"conditional"``.

    Raises
    ------
    InferenceError : a categorical predictor, values that the design no longer holds.
    """
    settings = _settings(evidence, kind)
    focal = settings.find(focal)
    fixed = _changes(settings, at)
    own = fixed.pop(focal, None)
    values = settings.observed(focal)
    if _is_category(settings, focal):
        raise InferenceError(
            "A slope belongs to a numeric predictor.",
            f"{focal} has categories",
            f"use average_comparisons({focal!r})",
        )
    if own is None and values is None:
        raise InferenceError(
            "An average slope needs the values of its predictor.",
            f"{focal} enters the model only inside a function or a product",
            f'write at={{"{focal}": value}}',
        )
    x = np.full(len(settings.at), float(own)) if own is not None else _known(values)[settings.at]
    spread = float(x.std()) if own is None else 1.0
    h = STEP * (spread or 1.0)
    up, down = settings.rows({**fixed, focal: x + h}), settings.rows({**fixed, focal: x - h})
    found = _effects(evidence, [(up, down, 2.0 * h)], settings, kind)
    return _records(evidence, focal, ["slope"], found, kind, conf_level)


def average_comparisons(
    evidence: GeneralizedEvidence,
    variable: str,
    values: Sequence[Any] | None = None,
    at: Mapping[str, Any] | None = None,
    kind: str = "marginal",
    conf_level: float = 0.95,
) -> tuple[AverageEffect, ...]:
    """Average differences of the expected response between values of one predictor.

    Parameters
    ----------
    values : the values to compare, each with each; None takes every category, both values of a
        two-valued number, or one unit more than observed against as observed.
    at, kind : as in ``average_slopes``.

    Raises
    ------
    InferenceError : fewer than two values, or values that the design no longer holds.
    """
    settings = _settings(evidence, kind)
    name = settings.find(variable)
    fixed = _changes(settings, at)
    chosen, labels = _compared(settings, name, values)
    rows = [settings.rows({**fixed, name: value}) for value in chosen]
    pairs = list(combinations(range(len(rows)), 2))
    found = _effects(evidence, [(rows[b], rows[a], 1.0) for a, b in pairs], settings, kind)
    names = [f"{labels[b]} - {labels[a]}" for a, b in pairs]
    return _records(evidence, name, names, found, kind, conf_level)


def _compared(
    settings: Settings, name: str, values: Sequence[Any] | None
) -> tuple[list[Any], list[str]]:
    if values is not None:
        if isinstance(values, str) or len(values) < 2:
            raise InferenceError(
                "A comparison needs at least two values of the predictor.",
                f"{values!r}",
                "write values=[0, 1]",
            )
        return list(values), [str(v) for v in values]
    if _is_category(settings, name):
        grid = next(g for _, g in settings.sources.values() if name in g.variables)
        found = list(grid.variables[name].categories)
        return found, [str(v) for v in found]
    observed = settings.observed(name)
    if observed is None:
        raise InferenceError(
            "The values of a predictor must be known to compare two of them.",
            f"{name} enters the model only inside a function or a product",
            "write values=[0, 1]",
        )
    distinct = np.unique(observed)
    if len(distinct) == 2:
        return [float(v) for v in distinct], [f"{v:g}" for v in distinct]
    x = observed[settings.at]
    return [x, x + 1.0], ["observed", "observed + 1"]


def _known(values: Array | None) -> Array:
    return np.asarray(values, dtype=np.float64)


def _is_category(settings: Settings, name: str) -> bool:
    return any(
        name in grid.variables and grid.variables[name].is_category
        for _, grid in settings.sources.values()
    )


def _settings(evidence: GeneralizedEvidence, kind: str) -> Settings:
    check_request(evidence, kind, "response")
    n = evidence.design.n
    at = np.arange(n)
    if n > MOST_ROWS:
        at = np.unique(np.linspace(0, n - 1, MOST_ROWS).round().astype(np.intp))
    return Settings(evidence, at)


def _changes(settings: Settings, at: Mapping[str, Any] | None) -> dict[str, Any]:
    out = {}
    for name, value in (at or {}).items():
        if np.ndim(value) != 0:
            raise InferenceError(
                "at= sets each predictor to one value.", f"{name}: {value!r}", "give one value"
            )
        out[settings.find(name)] = value
    return out


def _effects(
    evidence: GeneralizedEvidence,
    pairs: Sequence[tuple[PartRows, PartRows, float]],
    settings: Settings,
    kind: str,
) -> tuple[Array, Array]:
    """Average differences (pairs x C,) and their covariance."""
    m = len(settings.at)
    quantity = quantity_of(evidence, "response", m)(m)
    weights = evidence.design.frequency_weights
    w = np.ones(m) if weights is None else weights[settings.at]
    w = w / w.sum()

    def mean(rows: PartRows, psi: Array) -> Array:
        eta = fixed_predictors(rows, evidence.fit, psi)
        if kind == "conditional":
            eta = add_effects(eta, rows, evidence, evidence.effects)
        if kind == "marginal" and evidence.random:
            factors = evidence.prepared.problem.factors(psi)
            S = predictor_covariance(rows, evidence, tuple(L @ L.T for L in factors))
            return average(quantity, eta, S, evidence.random)
        return quantity(eta)

    def values(psi: Array) -> Array:
        return np.concatenate(
            [(mean(up, psi) - mean(down, psi)) @ w / size for up, down, size in pairs]
        )

    return delta_covariance(values, evidence.fit)


def _records(
    evidence: GeneralizedEvidence,
    term: str,
    components: Sequence[str],
    found: tuple[Array, Array],
    kind: str,
    conf_level: float,
) -> tuple[AverageEffect, ...]:
    z = float(normal_quantile(0.5 + check_level(conf_level) / 2.0))
    value, covariance = found
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    labels = names_of(evidence, "response")
    noun = "probability" if evidence.family.response == "binary" else "expected response"
    out = []
    for k, component in enumerate(components):
        for c, label in enumerate(labels):
            b, se = float(value[k * len(labels) + c]), float(errors[k * len(labels) + c])
            statistic = b / se if se > 0.0 else float("nan")
            p = 2.0 * float(normal_tail(abs(statistic)))
            what = f"probability of {label}" if label else noun
            step = "one unit more of" if component == "slope" else f"{component} of"
            sentence = (
                f"On average, {step} {term} changes the {what} by {b:+.4f} ({p_words(p)}), "
                f"{KIND_WORDS[kind]}."
            )
            out.append(
                AverageEffect(
                    term, component, label, kind, b, se, statistic, p, b - z * se, b + z * se,
                    sentence,
                )
            )  # fmt: skip
    return tuple(out)
