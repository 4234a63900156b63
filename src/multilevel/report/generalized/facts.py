"""A generalized design in the shapes that reports of Gaussian models read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import Design
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.generalized.natural import core_name, is_constant, natural_parameters
from multilevel.interpret.variance import (
    INTERCEPT,
    IntraclassCorrelation,
    VarianceComponent,
    effect_components,
    shares_of_variance,
)
from multilevel.report.facts import is_chain
from multilevel.report.layout import count, join_words, percent, short
from multilevel.report.related_words import related_kind

_KINDS = {1: "Single-level", 2: "Two-level", 3: "Three-level", 4: "Four-level", 5: "Five-level"}


def whole_design(design: GeneralizedDesign) -> Design:
    """The rows and the formula with the random effects of all parts."""
    return replace(
        design.mean,
        X=design.parts[0].X,
        names=design.parts[0].names,
        blocks=design.blocks,
        weights=design.precision_weights,
    )


def part_design(design: GeneralizedDesign, part: int) -> Design:
    """The design of one part: its fixed effects, and the random effects that belong to it."""
    own = design.parts[part]
    base = design.mean if own.design is None else own.design
    blocks = []
    for block, belongs in zip(design.blocks, design.block_parts, strict=True):
        places = [a for a, d in enumerate(belongs) if d == part]
        if places:
            prefix = f"{own.spec.name}: "
            names = tuple(block.names[a].removeprefix(prefix) for a in places)
            blocks.append(replace(block, columns=block.columns[:, places], names=names))
    return replace(base, X=own.X, names=own.names, blocks=tuple(blocks), offset=own.offset)


def kind_words(design: GeneralizedDesign) -> str:
    """``Two-level model``, ``Cross-classified model``."""
    k, whole = len(design.blocks), whole_design(design)
    general = related_kind(design.blocks)
    if general:
        return general[0].upper() + general[1:]
    if is_chain(whole) and k + 1 in _KINDS:
        return f"{_KINDS[k + 1]} model"
    return "Cross-classified model" if k > 1 else "Model"


def outcome_sentences(design: GeneralizedDesign) -> tuple[str, ...]:
    """What is modelled, and how the outcome is distributed over the rows."""
    said = outcome_sentence(design)
    return (said[0].upper() + said[1:] + ".", *_outcome_counts(design))


def outcome_sentence(design: GeneralizedDesign) -> str:
    """What is modelled, in words: the event, the order of categories, or the mean of what."""
    family, said = design.family, design.response.sentence
    if family.response in ("binary", "ordered", "nominal"):
        return said
    if core_name(family) in ("lognormal", "censored_lognormal"):
        return said.replace("the mean of ", "the mean of the log of ", 1)
    if family.option("truncated") == "yes":
        return f"{said} before zeros are cut off"
    shown = design.mean.model.response
    if family.option("zero") == "inflated":
        return f"{said} without structural zeros, and the probability of a structural zero"
    if family.option("zero") == "hurdle":
        where = " before zeros are cut off" if family.response == "count" else " where it is not 0"
        return f"{said}{where}, and the probability that {shown} = 0"
    if family.response == "unit_interval":
        return f"{said} between 0 and 1, and the probabilities of exactly 0 and 1"
    return said


def _outcome_counts(design: GeneralizedDesign) -> list[str]:
    response, kind = design.response, design.family.response
    w = np.ones(design.n) if design.frequency_weights is None else design.frequency_weights
    y = response.y
    if kind == "binary" and response.trials is not None:
        total, events = float(w @ response.trials), float(w @ y)
        return [f"{events:.0f} events in {total:.0f} trials ({percent(events / total)})."]
    if response.categories:
        sizes = np.bincount(y.astype(np.intp), weights=w, minlength=len(response.categories))
        listed = [
            f"{label} {size:.0f} ({percent(size / sizes.sum())})"
            for label, size in zip(response.categories, sizes, strict=True)
        ]
        return [f"Rows by category: {join_words(listed)}."]
    if kind in ("count", "nonnegative", "unit_interval"):
        zeros, total = float(w @ (y == 0.0)), float(w.sum())
        text = f"Mean {short(float(w @ y) / total)}, largest value {short(float(y.max()))}"
        if kind == "unit_interval":
            ones = float(w @ (y == 1.0))
            return [f"{text}; {zeros:.0f} exact zeros and {ones:.0f} exact ones."]
        return [f"{text}; {percent(zeros / total)} of the rows are zero." if zeros else f"{text}."]
    return []


def weight_sentences(design: GeneralizedDesign) -> list[str]:
    """What weights mean, where there are any."""
    out = []
    if design.frequency_weights is not None:
        total = float(design.frequency_weights.sum())
        out.append(f"Frequency weights: the rows stand for {total:.0f} observations.")
    return out


def components(design: GeneralizedDesign, fit: GeneralizedFit) -> tuple[VarianceComponent, ...]:
    """Variances and covariances of random effects on the scales of their predictors."""
    return effect_components(design.blocks, fit.random_covariance)


@dataclass(frozen=True)
class LatentResidual:
    """Variance of a row around its predictor, on the scale of the random effects.

    Attributes
    ----------
    variance : its value.
    words : value and origin.
    response : what varies: ``"latent response"``, ``"log response"``, ``"response"``.
    """

    variance: float
    words: str
    response: str


def latent_residual(design: GeneralizedDesign, fit: GeneralizedFit) -> LatentResidual | None:
    """The level-1 variance that random effects can be compared with.

    ``pi^2/3`` under the logit link, 1 under probit, ``pi^2/6`` under cloglog, for binary and
    cumulative models (Snijders & Bosker 2012, sections 17.2 and 17.4); the estimated residual
    variance where the family has one and the link is the identity. None for all other families.
    """
    fixed = {"logit": "pi^2/3 = ", "probit": "", "cloglog": "pi^2/6 = "}
    family, core = design.family, core_name(design.family)
    if family.level_one_variance is not None and core in ("binomial", "cumulative"):
        value = family.level_one_variance
        words = f"{fixed[family.link]}{short(value)}, fixed by the {family.link} link"
        return LatentResidual(value, words, "latent response")
    if family.has_residual and family.link == "identity":
        kind = "log response" if core.endswith("lognormal") else "response"
        for p in natural_parameters(design, fit):
            if p.term == "residual variance":
                return LatentResidual(p.estimate, f"{short(p.estimate)}, estimated", kind)
    return None


def latent_shares(
    design: GeneralizedDesign, fit: GeneralizedFit
) -> tuple[IntraclassCorrelation, ...]:
    """Intraclass correlations on the latent scale; none with random slopes, random effects of
    other parts, or without a latent residual variance."""
    residual = latent_residual(design, fit)
    if residual is None or not design.blocks:
        return ()
    if any(b.names != (INTERCEPT,) for b in design.blocks):
        return ()
    if any(d != 0 for belongs in design.block_parts for d in belongs):
        return ()
    tau2 = [float(G[0, 0]) for G in fit.random_covariance]
    return shares_of_variance(design.blocks, tau2, residual.variance)


def parameter_words(design: GeneralizedDesign, fit: GeneralizedFit) -> str:
    """``5 parameters: 4 fixed effects of the means, 1 of ... and 1 variance of ...``."""
    parts: list[str] = []
    thresholds = 0
    fixed = 0
    for d, part in enumerate(design.parts):
        if d == 0 or part.spec.argument == "formula":
            fixed += len(part.names)
        elif part.spec.name.startswith("threshold "):
            thresholds += len(part.names)
    if fixed:
        parts.append(f"{count(fixed, 'fixed effect')} of the means")
    if thresholds:
        parts.append(count(thresholds, "threshold"))
    for part in design.parts[1:]:
        if part.spec.argument == "formula" or part.spec.name.startswith("threshold "):
            continue
        many = f"{len(part.names)} " if not is_constant(part) else "1 "
        parts.append(f"{many}of the {_short_part(part.spec.name)}")
    n_theta = len(fit.psi) - fit.fixed_slices[-1].stop
    if n_theta:
        has_pairs = any(c.term2 for c in components(design, fit))
        noun = "variances and covariances" if has_pairs else "variances"
        noun = "variance" if n_theta == 1 else noun
        parts.append(f"{n_theta} {noun} of random effects")
    return f"{count(fit.n_parameters, 'parameter')}: {join_words(parts)}"


def _short_part(name: str) -> str:
    return {"zero": "model for zeros", "df": "residual df"}.get(name, name)
