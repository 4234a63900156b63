"""The summary of a structural model as sections, ready for terminal and notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.structural import ParameterTests
from multilevel.infer.structural_fit import FitMeasures
from multilevel.interpret.structural import ExplainedVariance
from multilevel.interpret.structural_slopes import LevelTwoSlope
from multilevel.model.structural.records import Level, Parameter
from multilevel.report.layout import (
    Grid,
    Section,
    count,
    decimals_for,
    join_words,
    number,
    share,
)
from multilevel.report.structural_levels import level_head, model_title, unit_lines
from multilevel.report.summary import p_text


@dataclass(frozen=True)
class StructuralReport:
    """Everything that the summary prints; the records of the rooms below."""

    problem: StructuralProblem
    fit: StructuralFit
    tests: ParameterTests
    standardized: np.ndarray[tuple[int], np.dtype[np.float64]]
    defined: ParameterTests
    explained: tuple[ExplainedVariance, ...]
    slopes: tuple[LevelTwoSlope, ...]
    faults: tuple[str, ...]
    measures: FitMeasures
    advice: tuple[str, ...]
    boundary: tuple[str, ...] = ()


def structural_title(fit: StructuralFit) -> tuple[str, ...]:
    """Title lines: kind of model and estimator."""
    return (model_title(fit.model),)


def structural_sections(report: StructuralReport) -> list[Section]:
    """The sections in reading order; empty ones are skipped in print."""
    out = []
    if report.faults:
        out.append(Section("INADMISSIBLE SOLUTION", sentences=report.faults))
    if report.boundary:
        out.append(Section("AT THE BOUNDARY", sentences=report.boundary))
    out.append(_data(report))
    model = report.fit.model
    for g, label in enumerate(model.groups):
        for level in model.levels:
            out += _level(report, level, g, f", group {label}" if label else "")
    out.append(Section("Tests", sentences=(report.tests.sentence,)))
    out.append(_defined(report))
    out.append(Section("Between or contextual", sentences=tuple(s.sentence for s in report.slopes)))
    out.append(_explained(report))
    out.append(_measures(report.measures))
    certificate = report.fit.certificate
    out.append(Section("Convergence", sentences=(certificate.sentence, *certificate.notes)))
    out.append(Section("Advice", sentences=report.advice))
    return out


def _data(report: StructuralReport) -> Section:
    design, model = report.problem.design, report.fit.model
    lines = unit_lines(design)
    lines += [
        f"Random slope {s.name}: {s.outcome} on the observed {s.predictor}"
        for s in model.random_slopes
    ]
    sentences = list(design.notes)
    if design.missing:
        holes = join_words([f"{name} {n}" for name, n in design.missing.items()])
        n_patterns = sum(s.n_patterns for s in report.problem.statistics)
        sentences.append(
            f"Missing values: {holes} ({count(n_patterns, 'pattern')} of rows). All values that are"
            " there are used (full-information maximum likelihood; missing at random)."
        )
    if model.fixed_exogenous:
        sentences.append(
            f"The likelihood is conditional on {join_words(model.fixed_exogenous)}: nothing is"
            " assumed about the distribution of these predictors."
        )
    return Section("Data", lines=tuple(lines), sentences=tuple(sentences))


def _level(report: StructuralReport, level: Level, group: int, where: str) -> list[Section]:
    rows = [
        k
        for k, p in enumerate(report.fit.model.parameters)
        if (p.level, p.group) == (level, group) and p.origin != "exogenous"
        and not (p.op == "~1" and not p.is_free and p.value == 0.0)
    ]  # fmt: skip
    head = f"{level_head(report.fit.model, level)}{where})"
    parts = (
        ("measurement model (loadings)", ("=~",)),
        ("model for the means", ("~", "~1")),
        ("model for the variance", ("~~",)),
    )
    out = []
    for title, ops in parts:
        mine = [k for k in rows if report.fit.model.parameters[k].op in ops]
        if mine:
            out.append(Section(f"{head}: {title}", grid=_grid(report, mine)))
    return out


def _words(p: Parameter, is_residual: bool) -> str:
    """One parameter in words of the field."""
    if p.op == "=~":
        return f"{p.rhs} on {p.lhs}"
    if p.op == "~":
        return f"{p.lhs} on {p.rhs}"
    if p.op == "~1":
        return f"{'intercept' if is_residual else 'mean'} of {p.lhs}"
    kind = "residual " if is_residual else ""
    if p.is_variance:
        return f"{kind}variance of {p.lhs}"
    return f"{kind}covariance of {p.lhs} and {p.rhs}"


def _grid(report: StructuralReport, rows: Sequence[int]) -> Grid:
    parameters, tests = report.fit.model.parameters, report.tests
    decimals = decimals_for([float(e) for e in tests.std_error[list(rows)]])
    body = []
    for k in rows:
        p = parameters[k]
        block = report.fit.model.block(p.level, p.group)
        pointed_at = {r.lhs for r in block if r.op == "~"} | {r.rhs for r in block if r.op == "=~"}
        if p.level == "within":
            pointed_at |= {s.outcome for s in report.fit.model.random_slopes}
        words = _words(p, p.lhs in pointed_at)
        known = np.isfinite(tests.std_error[k])
        held = _without_error(report.fit, p)
        body.append(
            (
                f"{words} ({p.label})" if p.label else words,
                number(float(tests.estimate[k]), decimals),
                number(float(tests.std_error[k]), decimals) if known else held,
                number(float(tests.statistic[k]), 2) if known else "",
                p_text(float(tests.p_value[k])) if known else "",
                share(float(report.standardized[k])),
            )
        )
    return Grid(("Parameter", "Estimate", "Std. error", "z", "p", "Stand."), tuple(body))


def _without_error(fit: StructuralFit, p: Parameter) -> str:
    """Why a parameter has no standard error, in a word."""
    if not p.is_free:
        return "fixed"
    if fit.boundary is None:
        return "none"
    return "boundary" if not np.any(fit.boundary.tangent[p.free]) else "open"


def _defined(report: StructuralReport) -> Section:
    tests = report.defined
    decimals = decimals_for([float(e) for e in tests.std_error])
    percent = f"{100.0 * tests.conf_level:g}%"
    body = tuple(
        (
            f"{d.name} = {d.source}",
            number(float(tests.estimate[k]), decimals),
            number(float(tests.std_error[k]), decimals),
            number(float(tests.statistic[k]), 2),
            p_text(float(tests.p_value[k])),
            number(float(tests.conf_low[k]), decimals),
            number(float(tests.conf_high[k]), decimals),
        )
        for k, d in enumerate(report.fit.model.defined)
    )
    header = ("Parameter", "Estimate", "Std. error", "z", "p", f"{percent} low", "high")
    return Section("Defined parameters (delta method)", grid=Grid(header, body))


def _explained(report: StructuralReport) -> Section:
    body = tuple(
        (e.outcome, f"{e.level}{f', {e.group}' if e.group else ''}", share(e.r_squared))
        for e in report.explained
    )
    return Section("Explained variance", grid=Grid(("Variable", "Level", "R2"), body, 2))


def _measures(m: FitMeasures) -> Section:
    lines = [
        f"-2 log-likelihood {m.minus2_loglik:.2f}"
        + f" (saturated {m.minus2_loglik_saturated:.2f})"
        * bool(np.isfinite(m.minus2_loglik_saturated)),
        f"{count(m.n_parameters, 'parameter')}    AIC {m.aic:.2f}    BIC {m.bic:.2f}",
    ]
    if m.model.df > 0:
        lines.append(
            f"CFI {number(m.cfi, 3)}    TLI {number(m.tli, 3)}    RMSEA {number(m.rmsea, 3)}"
            f" (90% {number(m.rmsea_low, 3)} to {number(m.rmsea_high, 3)})"
        )
        second = "level 2" if m.srmr_higher else "between"
        lines.append(
            f"SRMR within {_three(m.srmr_within)}    {second} {_three(m.srmr_between)}"
            + "".join(f"    {name} {_three(value)}" for name, value in m.srmr_higher)
        )
    sentences = [m.sentence]
    if np.isfinite(m.model.scaling):
        sentences.append(
            f"Corrected for non-normality and clustering (factor {m.model.scaling:.3f}):"
            f" chi-square({m.model.df}) = {m.model.scaled:.2f}, p {_p(m.model.p_value_scaled)};"
            f" robust CFI {number(m.cfi_robust, 3)}, TLI {number(m.tli_robust, 3)},"
            f" RMSEA {number(m.rmsea_robust, 3)}."
        )
    elif m.model.df > 0 and "no correction" not in m.sentence:
        sentences.append("The correction for non-normality does not exist here (factor below 0).")
    return Section("Fit", lines=tuple(lines), sentences=tuple(sentences))


def _three(value: float) -> str:
    """Three decimals, however small: measures of fit need no more."""
    return f"{value:.3f}" if np.isfinite(value) else "."


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"= {p:.3f}"
