"""What a model with a latent cluster mean says: effects, reliability, random effects, predictions.

``y_ij = b0_j + b_w (x_ij - mu_j) + e_ij``, ``b0_j = g00 + b_b mu_j + u_j``, ``x_ij = mu_j + r_ij``,
with mu_j the latent mean of x. The observed mean of n rows has reliability
``lambda = tau2_x / (tau2_x + sigma2_x / n)``, and with it the contextual effect comes out as about
``lambda (b_b - b_w)`` (Ludtke, Marsh, Robitzsch, Trautwein, Asparouhov & Muthen 2008, Psychol.
Methods 13:203, eq. 7 and 8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.structural import (
    ParameterTests,
    StructuralCovariance,
    label_duals,
    parameter_values,
    z_tests,
)
from multilevel.likelihood.structural.posterior import GroupPosterior, Posterior
from multilevel.model.latent_mean import LatentMeanPlan

Array = NDArray[np.float64]
EFFECTS = ("within", "between", "contextual")


@dataclass(frozen=True)
class MeanReliability:
    """Reliability of the observed mean of x in clusters of one size."""

    cluster_size: int
    n_clusters: int
    reliability: float


@dataclass(frozen=True)
class VariancePart:
    """One variance or covariance: ``component`` in words, with its standard error."""

    group: str
    component: str
    estimate: float
    std_error: float


def named_tests(
    fit: StructuralFit, labels: list[str], covariance: StructuralCovariance, conf_level: float
) -> ParameterTests:
    """z tests of labelled parameters and definitions."""
    duals = label_duals(fit)
    values = np.array([duals[name][0] for name in labels])
    rows = np.array([duals[name][1] for name in labels]).reshape(len(labels), fit.n_parameters)
    return z_tests(values, rows, covariance, conf_level)


def effect_tests(
    fit: StructuralFit, covariance: StructuralCovariance, conf_level: float
) -> ParameterTests:
    """The within, the between and the contextual effect of x."""
    return named_tests(fit, [f"slope_{e}" for e in EFFECTS], covariance, conf_level)


def fixed_labels(plan: LatentMeanPlan) -> dict[str, str]:
    """``{name in the formula: label}`` of the fixed effects."""
    question = plan.question
    out = {"(Intercept)": "intercept"}
    out[question.variable if plan.is_contextual else question.within_name] = "slope_within"
    out[question.latent_name] = "slope_contextual" if plan.is_contextual else "slope_between"
    return out | {c.name: c.label for c in plan.covariates}


def variance_parts(
    problem: StructuralProblem,
    fit: StructuralFit,
    plan: LatentMeanPlan,
    covariance: StructuralCovariance,
) -> tuple[VariancePart, ...]:
    """Variances of the random effects, the residual, and the two parts of x."""
    values, jacobian = parameter_values(problem, fit)
    tests = z_tests(values, jacobian, covariance, 0.95)
    x, y, s = plan.question.variable, plan.response, plan.slope
    words = {
        ("between", y, y): (plan.question.cluster, "(Intercept)"),
        ("between", s, s): (plan.question.cluster, x),
        ("between", s, y): (plan.question.cluster, f"(Intercept) : {x}"),
        ("within", y, y): ("residual", y),
        ("between", x, x): (plan.question.cluster, f"latent mean of {x}"),
        ("within", x, x): ("residual", f"{x} around its latent mean"),
    }
    out = []
    for key, (group, component) in words.items():
        for k, p in enumerate(fit.model.parameters):
            if p.op == "~~" and (p.level, p.lhs, p.rhs) == key:
                out.append(VariancePart(group, component, float(values[k]),
                                        float(tests.std_error[k])))  # fmt: skip
    return tuple(out)


def mean_reliability(
    problem: StructuralProblem, fit: StructuralFit, plan: LatentMeanPlan
) -> tuple[MeanReliability, ...]:
    """lambda of the observed mean, by cluster size."""
    at = problem.objective(fit.model).implied(fit.theta, 0)
    x = fit.model.both.index(plan.question.variable)
    tau2, sigma2 = float(at["between"].cov[x, x]), float(at["within"].cov[x, x])
    sizes = np.bincount(problem.design.groups[0].codes)
    out = []
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        out.append(MeanReliability(int(size), int(count), tau2 / (tau2 + sigma2 / int(size))))
    return tuple(out)


def average_reliability(found: tuple[MeanReliability, ...]) -> float:
    """Average over clusters."""
    weights = np.array([r.n_clusters for r in found], dtype=np.float64)
    return float(np.average([r.reliability for r in found], weights=weights))


def _between(problem: StructuralProblem, fit: StructuralFit, names: list[str]) -> Posterior:
    """Posterior moments of variables of the between level, by cluster."""
    posterior = GroupPosterior(problem.objective(fit.model), fit.theta, 0)
    places = [posterior.maps["between"].names.index(n) for n in names]
    return posterior.between(np.array(places, dtype=np.intp))


def random_effects(
    problem: StructuralProblem, fit: StructuralFit, plan: LatentMeanPlan
) -> dict[str, tuple[Array, Array]]:
    """``{random effect: (estimate (J,), std_error (J,))}`` given all data of the cluster."""
    x, y, s = plan.question.variable, plan.response, plan.slope
    split = [c for c in plan.covariates if c.within and c.between]
    found = _between(problem, fit, [y, x, *([s] if s else []), *(c.between for c in split)])
    values = label_duals(fit)
    slope = values["slope_contextual" if s else "slope_between"][0]
    own = [values[c.label][0] for c in split]
    weights = np.array([1.0, -slope, *([0.0] if s else []), *(-v for v in own)])
    given = _level_two(problem, fit, plan)
    if split:  # the split ones stand in the weights
        given = given - found.mean[:, len(weights) - len(split) :] @ np.array(own)
    mean = found.mean @ weights - values["intercept"][0] - given
    error = np.sqrt(np.maximum(np.einsum("a,jab,b->j", weights, found.cov, weights), 0.0))
    out = {"(Intercept)": (mean, error)}
    if s:
        spread = np.sqrt(np.maximum(found.cov[:, 2, 2], 0.0))
        out[x] = (found.mean[:, 2] - values["slope_within"][0], spread)
    return out


def _split_means(
    problem: StructuralProblem, fit: StructuralFit, plan: LatentMeanPlan
) -> dict[str, Array]:
    """``{covariate: (J,) its latent mean}`` of the covariates that are split."""
    names = [c.between for c in plan.covariates if c.within and c.between]
    found = _between(problem, fit, names).mean if names else np.zeros((0, 0))
    return {name: found[:, k] for k, name in enumerate(names)}


def _level_two(problem: StructuralProblem, fit: StructuralFit, plan: LatentMeanPlan) -> Array:
    """(J,) what covariates add between clusters."""
    values, z = label_duals(fit), problem.design.groups[0].z
    means = _split_means(problem, fit, plan)
    total = np.zeros(len(z))
    for c in plan.covariates:
        if c.between:
            known = c.between in means
            own = means[c.between] if known else z[:, fit.model.between_only.index(c.between)]
            total += values[c.label][0] * own
    return total


def predicted(
    problem: StructuralProblem, fit: StructuralFit, plan: LatentMeanPlan, *, with_random: bool
) -> Array:
    """(n,) expected outcome of the analysed rows, with the latent means at their estimates.

    ``with_random``: with the random effects of the cluster, else at zero.
    """
    x, y, s = plan.question.variable, plan.response, plan.slope
    group, model = problem.design.groups[0], fit.model
    found = _between(problem, fit, [y, x, *([s] if s else [])]).mean
    means = _split_means(problem, fit, plan)
    values = {name: dual[0] for name, dual in label_duals(fit).items()}
    own = group.y[:, model.observed("within").index(x)]
    if with_random:
        level = found[:, 0]
    else:
        slope = values["slope_contextual" if s else "slope_between"]
        level = values["intercept"] + slope * found[:, 1] + _level_two(problem, fit, plan)
    out = level[group.codes]
    if s and with_random:
        out = out + found[group.codes, 2] * own
    else:
        centre = 0.0 if s else found[group.codes, 1]
        out = out + values["slope_within"] * (own - centre)
    for c in plan.covariates:
        if c.within:
            part = group.y[:, model.observed("within").index(c.within)]
            if c.between:  # the level holds the slope times its latent mean already
                part = part - means[c.between][group.codes]
            out = out + values[c.label] * part
    return np.asarray(out)


def attenuation_sentence(
    plan: LatentMeanPlan, effects: ParameterTests, observed: float, reliability: float
) -> str:
    """The contextual effect beside that of the observed mean, in words."""
    x, latent = plan.question.variable, float(effects.estimate[2])
    text = (
        f"The observed mean of {x} has an average reliability of {reliability:.2f}. With it the"
        f" contextual effect would be {observed:.3f}; with the latent mean it is {latent:.3f}."
    )
    if reliability < 0.9:
        text += (
            f" In expectation the observed mean gives about {reliability:.2f} of it"
            f" ({reliability * latent:.3f}), and is too near to zero."
        )
    return text + (
        " The latent mean is right if the rows of a cluster are a sample from it; if they are all"
        " there is of it, the observed mean is the mean (Ludtke et al. 2008)."
    )
