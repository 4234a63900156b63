"""One generalized fit as a dictionary with stable keys, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multilevel.design.generalized import GeneralizedDesign
from multilevel.estimate.generalized.records import Approximation, GeneralizedFit
from multilevel.infer.degrees_of_freedom import DfMethod
from multilevel.infer.generalized.natural import natural_parameters, part_tests
from multilevel.infer.means_tests import RowTests
from multilevel.interpret.advice.record import Advice
from multilevel.interpret.random_structures import of_generalized
from multilevel.report.generalized.facts import (
    components,
    latent_residual,
    latent_shares,
    outcome_sentence,
)
from multilevel.report.generalized.ratios import exponential
from multilevel.report.generalized.words import ratio_of
from multilevel.report.json import certificate_json, plain_number, structures_json

_COLUMNS = ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high")


def generalized_json(
    fit: GeneralizedFit,
    design: GeneralizedDesign,
    df: DfMethod = "none",
    advice: Sequence[Advice] = (),
) -> dict[str, Any]:
    """All numbers of a generalized fit under stable keys; numbers that do not exist are ``None``.

    The keys of ``report.json.fit_json`` that apply keep their meaning (``formula, family, method,
    n, groups, minus2_loglik, n_par, aic, bic, fixed, random, icc, status, is_singular,
    certificate, seconds, advice``). New ones: ``link``; ``response`` (the sentence that says what
    is modelled) and ``categories`` (the event last, or lowest first); ``approximation`` with
    ``method, n_quad, error_estimate, error_std_error, sentence``; ``parts``, one entry for each
    linear predictor with ``name, link, meaning, formula, coefficients``; ``family_parameters``,
    everything beside the means on its natural scale; ``penalty``. ``fixed`` holds the first part;
    ``ratio`` is exp(estimate) where that has a meaning, with its name in ``parts``. ``icc`` is on
    the latent scale, ``latent_residual_variance`` its level-1 variance (``None`` where there is
    none).
    """
    certificate = fit.certificate
    residual = latent_residual(design, fit)
    return {
        "formula": design.mean.model.formula,
        "family": design.family.name,
        "link": design.family.link,
        "label": design.family.label,
        "response": outcome_sentence(design),
        "categories": list(design.response.categories),
        "method": fit.method,
        "n": int(fit.n),
        "groups": {block.group: int(block.n_levels) for block in design.blocks},
        "approximation": _approximation(fit.approximation),
        "reml_criterion" if fit.method == "reml" else "minus2_loglik": plain_number(fit.criterion),
        "n_par": int(fit.n_parameters),
        "aic": plain_number(fit.aic),
        "bic": plain_number(fit.bic),
        "fixed": _rows(design, 0, part_tests(design, fit, 0, df)),
        "df_method": df,
        "conf_level": 0.95,
        "parts": [_part(design, fit, d, df) for d in range(len(design.parts))],
        "family_parameters": _natural(design, fit),
        "random": _random(design, fit),
        **structures_json(of_generalized(design, fit)),
        "icc": {s.group: plain_number(s.proportion) for s in latent_shares(design, fit)},
        "latent_residual_variance": None if residual is None else plain_number(residual.variance),
        "penalty": fit.penalty or None,
        "status": certificate.status,
        "is_singular": certificate.status == "singular" or bool(certificate.redundant),
        "certificate": certificate_json(certificate),
        "seconds": {stage: plain_number(value) for stage, value in fit.seconds.items()},
        "advice": [
            {"code": a.code, "severity": a.severity, "sentence": a.sentence, "mend": a.mend}
            for a in advice
        ],
    }


def _natural(design: GeneralizedDesign, fit: GeneralizedFit) -> list[dict[str, Any]]:
    numbers = ("estimate", "std_error", "conf_low", "conf_high")
    return [
        {
            "part": p.part,
            "term": p.term,
            "meaning": p.meaning,
            **{name: plain_number(getattr(p, name)) for name in numbers},
        }
        for p in natural_parameters(design, fit)
    ]


def _random(design: GeneralizedDesign, fit: GeneralizedFit) -> list[dict[str, Any]]:
    return [
        {
            "group": c.group,
            "term": c.term,
            "term2": c.term2 or None,
            "variance_or_covariance": plain_number(c.variance),
            "sd_or_correlation": plain_number(c.correlation if c.term2 else c.sd),
        }
        for c in components(design, fit)
    ]


def _approximation(how: Approximation) -> dict[str, Any]:
    """How the integral was computed; ``n_quad`` is a number where all dimensions share it."""
    points = list(how.points)
    same = points[0] if points and len(set(points)) == 1 else points
    return {
        "method": how.method,
        "n_quad": same if points else None,
        "error_estimate": None if how.error is None else plain_number(how.error.criterion),
        "error_std_error": None if how.error is None else plain_number(how.error.std_error),
        "error_method": None if how.error is None else how.error.method,
        "largest_variance_error": plain_number(how.largest_variance_error),
        "largest_variance_std_error": plain_number(how.largest_variance_std_error),
        "sentence": how.sentence,
        "steps": list(how.steps),
    }


def _rows(design: GeneralizedDesign, part: int, tests: RowTests | None) -> list[dict[str, Any]]:
    has_ratio = ratio_of(design, part) is not None
    out = []
    for row in () if tests is None else tests.rows:
        one: dict[str, Any] = {"term": row.term}
        one |= {name: plain_number(getattr(row, name)) for name in _COLUMNS}
        if has_ratio:
            one["ratio"] = plain_number(exponential(row.estimate))
            one["ratio_low"] = plain_number(exponential(row.conf_low))
            one["ratio_high"] = plain_number(exponential(row.conf_high))
        out.append(one)
    return out


def _part(design: GeneralizedDesign, fit: GeneralizedFit, d: int, df: DfMethod) -> dict[str, Any]:
    part, ratio = design.parts[d], ratio_of(design, d)
    shares_formula = d == 0 or part.spec.argument == "formula"
    formula = None if part.design is None else part.design.model.formula
    return {
        "name": part.spec.name,
        "link": part.spec.link,
        "meaning": part.spec.meaning,
        "formula": formula,
        "ratio": None if ratio is None else ratio.name,
        "coefficients": _rows(
            design, d, part_tests(design, fit, d, df if shares_formula else "none")
        ),
    }
