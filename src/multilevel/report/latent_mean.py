"""The summary of a model with a latent cluster mean as sections, and its equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.structural import ParameterTests
from multilevel.interpret.latent_mean import EFFECTS, MeanReliability, VariancePart
from multilevel.model.latent_mean import LatentMeanPlan
from multilevel.report.layout import Grid, Section, decimals_for, join_words, number
from multilevel.report.summary import p_text


@dataclass(frozen=True)
class LatentMeanReport:
    """Everything that the summary prints."""

    plan: LatentMeanPlan
    problem: StructuralProblem
    fit: StructuralFit
    names: tuple[str, ...]
    tests: ParameterTests
    effects: ParameterTests
    observed: tuple[float, float, float]
    variances: tuple[VariancePart, ...]
    reliability: tuple[MeanReliability, ...]
    sentence: str
    faults: tuple[str, ...]
    boundary: tuple[str, ...]


def latent_mean_title(plan: LatentMeanPlan) -> tuple[str, ...]:
    """Title lines."""
    return (
        "Multilevel model with a latent cluster mean, by maximum likelihood",
        plan.question.formula,
    )


def latent_mean_sections(report: LatentMeanReport) -> list[Section]:
    """The sections in reading order."""
    fit, plan, design = report.fit, report.plan, report.problem.design
    x, cluster = plan.question.variable, plan.question.cluster
    out = []
    if report.faults:
        out.append(Section("INADMISSIBLE SOLUTION", sentences=report.faults))
    if report.boundary:
        out.append(Section("AT THE BOUNDARY", sentences=report.boundary))
    out.append(
        Section(
            "Data",
            lines=(f"{design.n_rows} rows in {design.n_clusters} clusters ({cluster})",),
            sentences=(
                f"{x} is split into its latent mean per {cluster} and the rest: it is an outcome of"
                f" the model like the response{_others(plan)}. Other predictors are taken as"
                " given.",
            ),
        )
    )
    heading = "Model for the means (fixed effects)"
    out.append(Section(heading, grid=_tests(report.names, report.tests),
                       sentences=(report.tests.sentence,)))  # fmt: skip
    out.append(Section(f"Effects of {x}", grid=_effects(report)))
    out.append(Section("Latent or observed mean", sentences=(report.sentence,)))
    out.append(_variances(report.variances))
    out.append(
        Section(
            "Fit",
            lines=(
                f"-2 log-likelihood {fit.criterion:.2f} ({' and '.join(fit.model.both)} together)",
                f"{fit.n_parameters} parameters    AIC {fit.aic:.2f}    BIC {fit.bic:.2f}",
            ),
        )
    )
    out.append(Section("Convergence", sentences=(fit.certificate.sentence,)))
    return out


def _others(plan: LatentMeanPlan) -> str:
    """The covariates that are split too, in words."""
    names = [c.name for c in plan.covariates if c.within and c.between]
    return f", and so {'is' if len(names) == 1 else 'are'} {join_words(names)}" if names else ""


def _tests(names: Sequence[str], tests: ParameterTests) -> Grid:
    decimals = decimals_for([float(e) for e in tests.std_error])
    body = tuple(
        (name, number(float(tests.estimate[k]), decimals),
         number(float(tests.std_error[k]), decimals), number(float(tests.statistic[k]), 2),
         p_text(float(tests.p_value[k])), number(float(tests.conf_low[k]), decimals),
         number(float(tests.conf_high[k]), decimals))
        for k, name in enumerate(names)
    )  # fmt: skip
    percent = f"{100.0 * tests.conf_level:g}%"
    return Grid(("Term", "Estimate", "Std. error", "z", "p", f"{percent} low", "high"), body)


def _effects(report: LatentMeanReport) -> Grid:
    grid = _tests([e.capitalize() for e in EFFECTS], report.effects)
    decimals = decimals_for([float(e) for e in report.effects.std_error])
    body = tuple(
        (*row[:5], number(value, decimals))
        for row, value in zip(grid.rows, report.observed, strict=True)
    )
    return Grid(("Effect", "Latent mean", "Std. error", "z", "p", "Observed mean"), body)


def _variances(parts: Sequence[VariancePart]) -> Section:
    decimals = decimals_for([p.std_error for p in parts])
    body = tuple(
        (p.group, p.component, number(p.estimate, decimals), number(p.std_error, decimals))
        for p in parts
    )
    header = ("Group", "Component", "Estimate", "Std. error")
    heading = (
        "Model for the variance (random effects, residual, and the two parts of the predictor)"
    )
    return Section(heading, grid=Grid(header, body, 2))


def latent_mean_equations(plan: LatentMeanPlan) -> str:
    """The model as equations in plain text, i for rows and j for clusters."""
    x, y = plan.question.variable, plan.response
    level_1 = [c for c in plan.covariates if c.within]
    level_2 = [c for c in plan.covariates if c.between and not c.within]
    more_1 = "".join(f" + {c.label} {c.name}_ij" for c in level_1)
    more_2 = "".join(f" + {c.label} {c.name}_j" for c in level_2)
    if plan.slope:
        lines = [
            f"{y}_ij = b0_j + b1_j {x}_ij{more_1} + e_ij,   e_ij ~ N(0, sigma2)",
            f"{x}_ij = mu_j + r_ij,   r_ij ~ N(0, sigma2_x)",
            f"b0_j = g00 + contextual mu_j{more_2} + u0_j",
            "b1_j = within + u1_j,   (u0_j, u1_j) ~ N(0, T)",
            "mu_j ~ N(mean, tau2_x);   between = contextual + within",
        ]
    elif plan.is_contextual:
        lines = [
            f"{y}_ij = b0_j + within {x}_ij{more_1} + e_ij,   e_ij ~ N(0, sigma2)",
            f"{x}_ij = mu_j + r_ij,   r_ij ~ N(0, sigma2_x)",
            f"b0_j = g00 + contextual mu_j{more_2} + u_j,   u_j ~ N(0, tau2)",
            "mu_j ~ N(mean, tau2_x);   between = contextual + within",
        ]
    else:
        lines = [
            f"{y}_ij = b0_j + within ({x}_ij - mu_j){more_1} + e_ij,   e_ij ~ N(0, sigma2)",
            f"{x}_ij = mu_j + r_ij,   r_ij ~ N(0, sigma2_x)",
            f"b0_j = g00 + between mu_j{more_2} + u_j,   u_j ~ N(0, tau2)",
            "mu_j ~ N(mean, tau2_x);   contextual = between - within",
        ]
    return "\n".join(lines)
