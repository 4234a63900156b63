"""The door to generalized models: formula, table and outcome in, a fitted model out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.api.generalized.location_scale import LocationScaleFit
from multilevel.api.generalized.options import OutcomeOptions
from multilevel.api.generalized.related import RelatedOutcomeFit
from multilevel.api.generalized.result import GeneralizedMultilevelFit
from multilevel.design.build import RankDeficient
from multilevel.design.generalized import Column, GeneralizedRequest, build_generalized
from multilevel.design.related import Related, check_related
from multilevel.design.response import ResponseRequest
from multilevel.errors import ModelError
from multilevel.estimate.generalized.accuracy import check_accuracy, fit_generalized
from multilevel.estimate.generalized.prepare import prepare_generalized
from multilevel.estimate.generalized.scale_points import scale_points
from multilevel.model.families.categories import Thresholds
from multilevel.model.families.request import FamilyRequest, request_family
from multilevel.model.formula.parse import parse_formula
from multilevel.model.specification import Model, RandomTerm
from multilevel.report.facts import labels_of
from multilevel.tables.table import as_table

Array = NDArray[np.float64]


def fit_outcome(
    formula: str,
    data: Any,
    options: OutcomeOptions,
    *,
    weights: Column | None,
    rank_deficient: RankDeficient,
    advice: bool,
    allow: Sequence[str],
    progress: Callable[[int, float], None] | None = None,
    related: Related | None = None,
) -> GeneralizedMultilevelFit:
    """Fit a generalized multilevel model; arguments as in ``fit``."""
    clock = [time.perf_counter()]
    accuracy = check_accuracy(options.accuracy)
    family = _family(formula, options)
    model = _model(formula, options, family)
    formulas = _formulas(model, options)
    if related is not None:
        check_related(replace(model, random=_all_random(model, formulas)), related)
    clock.append(time.perf_counter())
    table = as_table(data)
    request = GeneralizedRequest(
        family_of=family.family,
        response=ResponseRequest(family.base.response, options.event, tuple(options.categories)),
        trials=options.trials,
        weights=weights,
        frequency_weights=options.frequency_weights,
        formulas=formulas,
        rank_deficient=rank_deficient,
        allow=allow,
        is_correlated=options.scale is not None,
        related=related,
    )
    design = build_generalized(model, table, request)
    clock.append(time.perf_counter())
    prepared = prepare_generalized(design)
    solved = fit_generalized(
        prepared,
        n_quad=options.n_quad
        if options.scale is None or options.n_quad is not None
        else scale_points(prepared.problem),
        accuracy=accuracy,
        penalty=options.penalty,
        progress=progress,
    )
    clock.append(time.perf_counter())
    stages = ("formula", "design", "estimation")
    seconds = {name: clock[i + 1] - clock[i] for i, name in enumerate(stages)}
    solved = replace(solved, seconds=seconds)
    kind = GeneralizedMultilevelFit if options.scale is None else LocationScaleFit
    if related is not None:
        kind = RelatedOutcomeFit
    return kind(prepared, solved, labels=labels_of(table), shows_advice=advice, allow=tuple(allow))


def _family(formula: str, options: OutcomeOptions) -> FamilyRequest:
    """The family that is asked for, with what it needs to know of the formula."""
    if options.zero is not None and options.hurdle is not None:
        raise ModelError(
            "Zeros come from one of two models.",
            "zero= and hurdle= together",
            "write zero= for zero inflation or hurdle= for a hurdle",
        )
    zeros = "inflated" if options.zero is not None else "hurdle" if options.hurdle else ""
    free: Thresholds | None = "free" if options.thresholds is not None else None
    family = request_family(
        options.family, options.link, truncated=options.truncated, zero=zeros, thresholds=free,
        interval=formula.lstrip().startswith("interval("),
    )  # fmt: skip
    _check_scale(options, family)
    return family


def _all_random(model: Model, formulas: Mapping[str, Model]) -> tuple[RandomTerm, ...]:
    """The random terms of every formula."""
    return tuple(term for one in (model, *formulas.values()) for term in one.random)


def _check_scale(options: OutcomeOptions, family: FamilyRequest) -> None:
    """Refuse ``scale=`` where nothing is modelled by it, or twice."""
    if options.scale is None:
        return
    if options.dispersion is not None:
        raise ModelError(
            "scale= and dispersion= say the same.",
            "both of them",
            "write scale= (random effects correlated with those of the means) or dispersion=",
        )
    if not any(spec.argument == "dispersion" for spec in family.base.parts):
        raise ModelError(
            "scale= needs a family with a residual variance or a dispersion.",
            f"family={options.family!r}",
            "leave scale= out, or choose a family such as gaussian, gamma, beta or "
            "negative_binomial",
        )


def _model(formula: str, options: OutcomeOptions, family: FamilyRequest) -> Model:
    """The parsed formula, the exposure added as an offset."""
    text = formula
    if options.exposure is not None:
        link = family.base.link
        if link != "log":
            raise ModelError(
                "An exposure belongs to a log link: rates per unit of exposure.",
                f"exposure={options.exposure!r} with the {link} link",
                "use offset(...) in the formula, or a count family",
            )
        text = f"{formula} + offset(log({options.exposure}))"
    return replace(parse_formula(text, "ml"), family=family.base.name)


def _formulas(model: Model, options: OutcomeOptions) -> Mapping[str, Model]:
    """The models of parts that have their own right-hand side."""
    asked = {
        "dispersion": options.dispersion if options.scale is None else options.scale,
        "zero": options.zero if options.zero is not None else options.hurdle,
        "thresholds": options.thresholds,
    }
    found: dict[str, Model] = {}
    for name, text in asked.items():
        if text is None:
            continue
        if not isinstance(text, str) or text.count("~") > 1:
            raise ModelError(
                f"{name}= is the right-hand side of a formula.",
                repr(text),
                f'write {name}="~ x"',
            )
        right = text.split("~", 1)[-1]
        found[name] = parse_formula(f"{model.response} ~ {right}", "ml")
    return found
