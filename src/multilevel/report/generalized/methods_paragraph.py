"""A paragraph for the methods section of a generalized model, written from the fit alone."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.related import is_related
from multilevel.design.structured_terms import occasions
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.degrees_of_freedom import DfMethod
from multilevel.infer.generalized.natural import natural_parameters, part_tests
from multilevel.interpret.variance import INTERCEPT, effect_components
from multilevel.report.facts import is_chain
from multilevel.report.generalized.facts import (
    latent_residual,
    latent_shares,
    outcome_sentence,
    whole_design,
)
from multilevel.report.generalized.ratios import exponential
from multilevel.report.generalized.summary import icc_sentences
from multilevel.report.generalized.words import part_words, ratio_of
from multilevel.report.layout import join_words, short
from multilevel.report.methods_paragraph import (
    convergence_sentence,
    effects_sentence,
    means_sentence,
    rows_sentence,
)
from multilevel.report.random_structures import structured_words
from multilevel.report.related_words import related_kind, related_methods_sentence

_LEVELS = {1: "single-level", 2: "two-level", 3: "three-level", 4: "four-level", 5: "five-level"}


def methods_paragraph(
    fit: GeneralizedFit, design: GeneralizedDesign, df: DfMethod = "none", version: str = ""
) -> str:
    """Write down what was fitted and found, in the words of a methods section.

    Parameters
    ----------
    df : degrees of freedom of the tests of fixed effects.
    version : of this package; empty leaves it out.
    """
    whole = whole_design(design)
    sentences = [
        _model_sentence(design, version, fit.method),
        f"{outcome_sentence(design).replace('modelled:', 'The outcome modelled was', 1)}.",
        _integral_sentence(fit),
        rows_sentence(whole),
        means_sentence(whole),
        _parts_sentence(design),
        _random_sentence(design),
        related_methods_sentence(design.blocks),
        convergence_sentence(fit.certificate),
        _penalty_sentence(fit),
        *_effects(fit, design, df),
        _natural_sentence(fit, design),
        _variances_sentence(fit, design),
        _shares_sentence(fit, design),
    ]
    return " ".join(s for s in sentences if s)


_ESTIMATORS = {
    "ml": "maximum likelihood",
    "reml": "REML-type estimation (adjusted profile likelihood, Cox & Reid 1987)",
}


def _model_sentence(design: GeneralizedDesign, version: str, method: str = "ml") -> str:
    k = len(design.blocks)
    chain = is_chain(whole_design(design))
    kind = _LEVELS.get(k + 1, "multilevel") if chain else "cross-classified"
    if related_kind(design.blocks):
        kind = "multilevel"
    software = f" in multilevel {version} (Python)" if version else ""
    name = design.family.label.removesuffix(f" ({design.family.link} link)").replace(", ", " ")
    ordinal = "ordinal " * (design.family.response == "ordered")
    return (
        f"A {kind} {ordinal}{name} model with {design.family.link} link for"
        f" {design.mean.model.response} was estimated by {_ESTIMATORS[method]}{software}."
    )


def _integral_sentence(fit: GeneralizedFit) -> str:
    """How the random effects were integrated out."""
    how = fit.approximation
    if how.method == "none":
        return ""
    text = "The integral over the random effects was computed by"
    if how.method == "Laplace":
        text += " Laplace's approximation"
    elif len(set(how.points)) == 1:
        text += f" adaptive Gauss-Hermite quadrature with {how.points[0]} points per random effect"
        text += " on a sparse (Smolyak) grid" if "sparse grid" in fit.plan else ""
    else:
        text += f" adaptive Gauss-Hermite quadrature with {' x '.join(map(str, how.points))} points"
    if how.error is not None:
        text += f" (estimated error of -2 log-likelihood: {short(abs(how.error.criterion))})"
    return f"{text}."


def _parts_sentence(design: GeneralizedDesign) -> str:
    """Predictors of parts beside the means."""
    found = {}
    for part in design.parts[1:]:
        if part.spec.argument in ("", "formula"):
            continue
        names = [name for name in part.names if name != INTERCEPT]
        what = "thresholds" if part.spec.argument == "thresholds" else part.spec.meaning
        if names:
            found[what.split(":")[0]] = join_words(names)
    return " ".join(f"The model for the {what} included {names}." for what, names in found.items())


def _random_sentence(design: GeneralizedDesign) -> str:
    """Random effects by grouping factor and by the part that they belong to."""
    found: list[str] = []
    for block, belongs in zip(design.blocks, design.block_parts, strict=True):
        for d in dict.fromkeys(belongs):
            timed = occasions(block)
            names = [
                n
                for a, (n, at) in enumerate(zip(block.names, belongs, strict=True))
                if at == d and a not in timed
            ]
            plain = [name.split(": ", 1)[-1] for name in names]
            words = ["intercepts" if n == INTERCEPT else f"slopes of {n}" for n in plain]
            words += structured_words(block) if d == belongs[0] else []
            where = (
                ""
                if len(design.parts) == 1 or (d == 0 and not _is_shared(design))
                else (f" for {part_words(design, d)}")
            )
            found.append(f"random {join_words(words)} over {block.group}{where}")
    if not found:
        return ""
    free = any(
        stop - start > 1 and structure == "unstructured"
        for block in design.blocks
        for start, stop, structure in block.structure.terms
    )
    together = ", with the covariances among them" if free else ""
    return f"The model for the variance included {join_words(found)}{together}."


def _is_shared(design: GeneralizedDesign) -> bool:
    """Whether the formula applies to several parts (categories)."""
    return any(part.spec.argument == "formula" for part in design.parts)


def _penalty_sentence(fit: GeneralizedFit) -> str:
    return f"The estimates are penalised: {fit.penalty}." if fit.penalty else ""


def _effects(fit: GeneralizedFit, design: GeneralizedDesign, df: DfMethod) -> list[str]:
    """Fixed effects of the mean or of every category, then their ratios."""
    out = []
    for d, part in enumerate(design.parts):
        if d > 0 and part.spec.argument != "formula":
            continue
        tests = part_tests(design, fit, d, df)
        if tests is None:
            continue
        text = effects_sentence(pd.DataFrame([asdict(row) for row in tests.rows]))
        if part.spec.argument == "formula":
            text = text.replace("Fixed effects", f"Fixed effects, {part.spec.meaning}", 1)
        ratio = ratio_of(design, d)
        slopes = [row for row in tests.rows if row.term != INTERCEPT]
        if ratio is not None and slopes:
            listed = [
                f"{row.term} {short(exponential(row.estimate))} (95% CI"
                f" {short(exponential(row.conf_low))} to {short(exponential(row.conf_high))})"
                for row in slopes
            ]
            text += f" {ratio.plural}: {'; '.join(listed)}."
        out.append(text)
    return out


def _natural_sentence(fit: GeneralizedFit, design: GeneralizedDesign) -> str:
    found = natural_parameters(design, fit)
    thresholds = [f"{p.term} {short(p.estimate)}" for p in found if p.part == "threshold"]
    others = [
        f"{p.meaning if p.term == 'probability' else p.term} {short(p.estimate)}"
        for p in found
        if p.part != "threshold"
    ]
    out = [f"Thresholds: {'; '.join(thresholds)}."] if thresholds else []
    out += [f"Other parameters: {'; '.join(others)}."] if others else []
    return " ".join(out)


def _variances_sentence(fit: GeneralizedFit, design: GeneralizedDesign) -> str:
    parts = [
        f"{c.group} {c.term} {short(c.variance)}"
        for c in effect_components(design.blocks, fit.random_covariance)
        if not c.term2
    ]
    if not parts:
        return ""
    return f"Variances of random effects on the {design.family.link} scale: {'; '.join(parts)}."


def _shares_sentence(fit: GeneralizedFit, design: GeneralizedDesign) -> str:
    if is_related(design.blocks):
        return " ".join(icc_sentences(fit, design))
    residual, shares = latent_residual(design, fit), latent_shares(design, fit)
    if residual is None or not shares:
        return ""
    listed = "; ".join(f"{s.group} {s.proportion:.3f}" for s in shares)
    return (
        f"Shares of the variance of the {residual.response} (residual variance {residual.words}):"
        f" {listed}."
    )
