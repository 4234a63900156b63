"""The summary of a structural model with families or crossed clusters, as sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.structural_mixed import MixedFit
from multilevel.infer.structural import ParameterTests
from multilevel.infer.structural_mixed import FamilyParameters
from multilevel.interpret.structural_mixed import LatentResponseVariance
from multilevel.model.structural.records import Parameter
from multilevel.report.layout import (
    Grid,
    Section,
    count,
    decimals_for,
    join_words,
    number,
    share,
)
from multilevel.report.summary import p_text

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MixedReport:
    """Everything that the summary prints; the records of the rooms below."""

    fit: MixedFit
    tests: ParameterTests
    standardized: Array
    family: FamilyParameters
    family_tests: ParameterTests
    defined: ParameterTests
    explained: tuple[LatentResponseVariance, ...]
    scales: tuple[str, ...]


def mixed_title(fit: MixedFit) -> tuple[str, ...]:
    """Title line: kind of model and estimator."""
    design = fit.layout.design
    clusters = design.model.clusters
    if not clusters:
        return ("Structural model by maximum likelihood",)
    kind = "Structural model" if len(clusters) > 1 else "Two-level structural model"
    kind = "Cross-classified structural model" if design.is_crossed else kind
    return (f"{kind} by maximum likelihood, clusters: {join_words(clusters)}",)


def mixed_sections(report: MixedReport) -> list[Section]:
    """The sections in reading order; empty ones are skipped in print."""
    fit = report.fit
    model = fit.layout.design.model
    out = [_data(fit)]
    if fit.boundary is not None:
        out.append(Section("AT THE BOUNDARY", sentences=fit.boundary.sentences))
    for home in dict.fromkeys(("within", *model.homes)):
        out += _level(report, home)
    out.append(_families(report))
    out.append(Section("Tests", sentences=(report.tests.sentence,)))
    out.append(_defined(report))
    out.append(Section("Scales", sentences=report.scales))
    body = tuple(
        (e.outcome, e.level, e.scale, share(e.r_squared))
        for e in report.explained
        if np.isfinite(e.r_squared)
    )
    out.append(
        Section("Explained variance", grid=Grid(("Variable", "Level", "Scale", "R2"), body, 3))
    )
    lines = (
        f"-2 log-likelihood {fit.criterion:.2f}",
        f"{count(fit.n_parameters, 'parameter')}    AIC {fit.aic:.2f}    BIC {fit.bic:.2f}",
    )
    out.append(Section("Fit", lines=lines, sentences=(fit.approximation.sentence,)))
    out.append(Section("Convergence", sentences=(fit.certificate.sentence,)))
    return out


def _data(fit: MixedFit) -> Section:
    design = fit.layout.design
    model = design.model
    lines = [count(design.n_rows, "row")]
    if design.factors:
        lines[0] += " in " + join_words([f"{len(f.labels)} {f.name}" for f in design.factors])
    if design.is_crossed:
        lines[0] += " (crossed)"
    lines += [
        f"{name}: {design.families[k].label}"
        for k, name in enumerate(design.outcomes)
        if name in model.families
    ]
    if model.split:
        lines.append(f"On several levels: {', '.join(model.split)}")
    sentences = list(design.notes)
    if design.missing:
        holes = join_words([f"{name} {n}" for name, n in design.missing.items()])
        sentences.append(
            f"Missing values: {holes}. Every outcome that is there is used (maximum likelihood;"
            " missing at random)."
        )
    fixed = [n for m in model.models for n in m.fixed_exogenous]
    if fixed:
        sentences.append(
            f"The likelihood is conditional on {join_words(list(dict.fromkeys(fixed)))}: nothing is"
            " assumed about the distribution of these predictors."
        )
    return Section("Data", lines=tuple(lines), sentences=tuple(sentences))


def _level(report: MixedReport, home: str) -> list[Section]:
    model = report.fit.layout.design.model
    rows = [
        k
        for k, (p, h) in enumerate(zip(model.parameters, model.homes, strict=True))
        if h == home
        and p.origin != "exogenous"
        and not (p.op == "~1" and not p.is_free and p.value == 0.0)
    ]
    cluster = ", ".join(model.clusters) or "rows"
    head = {"within": f"Level 1 (within {cluster})", "between": f"Level 2 (between {cluster})"}.get(
        home, f"Level 2 (between {home})"
    )
    parts = (
        ("measurement model (loadings)", ("=~",)),
        ("model for the means", ("~", "~1")),
        ("model for the variance", ("~~",)),
    )
    out = []
    for title, ops in parts:
        mine = [k for k in rows if model.parameters[k].op in ops]
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


def _grid(report: MixedReport, rows: Sequence[int]) -> Grid:
    model, tests = report.fit.layout.design.model, report.tests
    decimals = decimals_for([float(e) for e in tests.std_error[list(rows)]])
    body = []
    for k in rows:
        p, home = model.parameters[k], model.homes[k]
        block = [q for q, h in zip(model.parameters, model.homes, strict=True) if h == home]
        pointed_at = {r.lhs for r in block if r.op == "~"} | {r.rhs for r in block if r.op == "=~"}
        words = _words(p, p.lhs in pointed_at)
        known = np.isfinite(tests.std_error[k])
        held = "boundary" if p.is_free and report.fit.boundary is not None else "fixed"
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


def _families(report: MixedReport) -> Section:
    found, tests = report.family, report.family_tests
    decimals = decimals_for([float(e) for e in tests.std_error])
    body = tuple(
        (
            f"{outcome}: {name}",
            number(float(tests.estimate[k]), decimals),
            number(float(tests.std_error[k]), decimals),
        )
        for k, (outcome, name) in enumerate(zip(found.outcomes, found.names, strict=True))
    )
    return Section("Thresholds and dispersions",
                   grid=Grid(("Parameter", "Estimate", "Std. error"), body))  # fmt: skip


def _defined(report: MixedReport) -> Section:
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
        for k, d in enumerate(report.fit.layout.design.model.whole.defined)
    )
    header = ("Parameter", "Estimate", "Std. error", "z", "p", f"{percent} low", "high")
    return Section("Defined parameters (delta method)", grid=Grid(header, body))
