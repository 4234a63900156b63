"""Equations of generalized models: what the link makes linear, level by level, no residual.

Letters: ``beta``, ``gamma``, ``U`` as in Gaussian models (the mean, or the latent response of
ordered categories); ``tau`` thresholds; ``zeta`` the model for zeros, ``delta`` that for the
dispersion and other parts, ``W`` their random effects.
"""

from __future__ import annotations

import re
from dataclasses import replace

from multilevel.design.generalized import GeneralizedDesign
from multilevel.infer.generalized.natural import core_name, is_constant
from multilevel.report.equations import aligned, composite, index_note
from multilevel.report.equations import equation_records as linear_records
from multilevel.report.generalized.facts import part_design
from multilevel.report.generalized.words import event_words, mean_words
from multilevel.report.layout import join_words
from multilevel.report.symbols import Equation, Symbol, Term

_ORDERED = ("cumulative", "adjacent", "continuation_ratio")
_LOGNORMAL = ("lognormal", "censored_lognormal")
_COUNTS = ("poisson", "negative_binomial", "negative_binomial_1", "generalized_poisson")
_SIGMA = ("gaussian", "lognormal", "censored_gaussian", "censored_lognormal", "student")


def equation_lines(design: GeneralizedDesign) -> tuple[str, ...]:
    """The equations as lines of plain text, notes on letters last."""
    return (*aligned(equation_records(design)), *equation_notes(design))


def equation_records(design: GeneralizedDesign) -> tuple[Equation, ...]:
    """The equations: the mean level by level, then one equation for every part with predictors."""
    found = list(_mean(design))
    done: set[str] = set()
    for d, part in enumerate(design.parts):
        name = part.spec.name.split(" ")[0] if part.spec.argument == "thresholds" else ""
        if d == 0 or part.spec.argument == "formula" or is_constant(part) or name in done:
            continue
        done.add(name or part.spec.name)
        found.append(_part(design, d))
    return tuple(found)


def equation_notes(design: GeneralizedDesign) -> tuple[str, ...]:
    """What indices and letters stand for, and how rows vary around their mean."""
    notes = [index_note(part_design(design, 0))]
    categories, core = design.response.categories, core_name(design.family)
    if core in _ORDERED:
        above = "; k+1: the category above k" if core == "adjacent" else ""
        notes.append(f"k: {join_words(categories[:-1])}{above}")
    elif core == "nominal":
        own = " and random effects" if design.blocks else ""
        notes.append(f"k: {join_words(categories[1:])}, each with its own coefficients{own}")
    if _shows_mu(design):
        notes.append(f"mu: {mean_words(design.family)}")
    notes += [
        part.spec.meaning
        for part in design.parts[1:]
        if part.spec.name == "dispersion" and is_constant(part) and " is " in part.spec.meaning
    ]
    return tuple(note for note in notes if note)


def _shows_mu(design: GeneralizedDesign) -> bool:
    """Whether the linear predictor is of a mean that no observed response has."""
    family = design.family
    is_count = core_name(family) in _COUNTS
    return family.option("truncated") == "yes" or (is_count and family.option("zero") == "hurdle")


def _mean(design: GeneralizedDesign) -> list[Equation]:
    first, *others = linear_records(part_design(design, 0))
    right = tuple(term for term in first.right if term[0].name != "e" or term[0].is_variable)
    index = first.left.index
    if core_name(design.family) in _ORDERED:
        eta = Symbol("eta", index)
        link = _category_equation(design, eta)
        if not right:
            return [link]
        return [link, Equation(first.label, eta, right), *others]
    return [Equation(first.label, _left(design, index), right), *others]


def _category_equation(design: GeneralizedDesign, eta: Symbol) -> Equation:
    """How thresholds and the latent response give probabilities of categories."""
    family = design.family
    after = {
        "cumulative": " <= k))",
        "adjacent": " = k+1 | k or k+1))",
        "continuation_ratio": " = k | k or higher))",
    }[family.name]
    left = Symbol(
        _response_name(design), eta.index, is_variable=True, before=f"{family.link}(P(",
        after=after,
    )  # fmt: skip
    tau: Term = (Symbol("tau", "k"),)
    if family.name == "adjacent":
        return Equation("Categories", left, ((eta,), tau), ("+", "-"))
    return Equation("Categories", left, (tau, (eta,)), ("+", "-"))


def _response_name(design: GeneralizedDesign) -> str:
    """The response; an expression in brackets, so that an index belongs to all of it."""
    name = design.mean.model.response
    plain = re.fullmatch(r"[\w.]+(\(.*\))?", name)
    return name if plain else f"({name})"


def _left(design: GeneralizedDesign, index: str) -> Symbol:
    """The left side of the mean: the link of what is modelled."""
    family, core = design.family, core_name(design.family)
    shown = Symbol(_response_name(design), index, is_variable=True)
    link = family.link
    if core == "binomial":
        if design.mean.model.response_parts or design.response.trials is not None:
            return replace(shown, name=event_words(design), before=f"{link}(P(", after="))")
        event = design.response.categories[1]
        return replace(shown, before=f"{link}(P(", after=f" = {event}))")
    if core == "nominal":
        reference = design.response.categories[0]
        return replace(shown, before="logit(P(", after=f" = k | k or {reference}))")
    if core in _LOGNORMAL:
        return replace(shown, before="E(log(", after="))")
    if _shows_mu(design):
        return Symbol("mu", index, before=f"{link}(", after=")")
    given = ""
    if family.option("zero"):
        given = " | not a structural zero" if family.option("zero") == "inflated" else " | not zero"
    elif core in ("ordered_beta", "zero_one_inflated_beta"):
        given = " | between 0 and 1"
    if link == "identity":
        return replace(shown, before="E(", after=f"{given})")
    if link == "inverse":
        return replace(shown, before="1 / E(", after=f"{given})")
    return replace(shown, before=f"{link}(E(", after=f"{given}))")


def _part(design: GeneralizedDesign, d: int) -> Equation:
    """One composite equation for a part with predictors."""
    spec = design.parts[d].spec
    response = _response_name(design)
    (whole,) = composite(part_design(design, d))
    letter = "zeta" if spec.name == "zero" else "delta"
    threshold = spec.argument == "thresholds"
    names = {"gamma": letter, "U": "W"}
    right = tuple(
        tuple(
            s if s.is_variable or s.name not in names
            else replace(s, name=names[s.name], index=s.index + ",k" * threshold)
            for s in term
        )
        for term in whole.right
        if term[0].name != "e" or term[0].is_variable
    )  # fmt: skip
    return Equation(*_part_left(design, d, response), right)


def _part_left(design: GeneralizedDesign, d: int, response: str) -> tuple[str, Symbol]:
    """Label and left side of a part."""
    spec, core = design.parts[d].spec, core_name(design.family)
    shown = Symbol(response, is_variable=True, before=f"{spec.link}(P(")
    if spec.argument == "thresholds":
        return "Thresholds", Symbol("tau", "k")
    if spec.name == "zero":
        structural = design.family.option("zero") == "inflated"
        after = " is a structural zero))" if structural else " = 0))"
        if core == "zero_one_inflated_beta":
            after = " = 0 or 1))"
        return "Zeros", replace(shown, after=after)
    if spec.name == "zero or one":
        return "Zeros, ones", replace(shown, after=" = 0 or 1))")
    if spec.name == "dispersion":
        letter = "sigma2" if core in _SIGMA else "alpha" if core in _COUNTS else "phi"
        return "Dispersion", Symbol(letter, before="log(", after=")")
    return spec.name.capitalize(), Symbol(spec.name, before=f"{spec.link}(", after=")")
