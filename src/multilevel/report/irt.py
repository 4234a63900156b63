"""The summary of an item response model, in the terms of the field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_tail
from multilevel.interpret.irt.parameters import ItemParameters, reliability
from multilevel.interpret.irt.source import Effect, SlopeSource, Source
from multilevel.model.irt import ROW_MODELS, SLOPE_MODELS, ItemWords, split_terms
from multilevel.report.layout import (
    Grid,
    Section,
    count,
    decimals_for,
    join_words,
    number,
    share,
)
from multilevel.report.summary import convergence_section, p_text

#: Items shown in the summary; the rest is in ``items()``.
MAX_ITEMS = 40


@dataclass(frozen=True)
class ItemReport:
    """What a summary is made from.

    Attributes
    ----------
    words : what the caller said.
    call : the call of ``fit`` that this model stands for, or "" for models with slopes.
    outcome : what is modelled, in words.
    source : the fit.
    """

    words: ItemWords
    call: str
    outcome: str
    source: Source


def item_title(report: ItemReport) -> tuple[str, ...]:
    """What the model is; then the call of ``fit`` that it stands for."""
    words = report.words
    kind = (ROW_MODELS.get(words.model) or SLOPE_MODELS[words.model])[0]
    lines = [f"Item response model for {words.response}", kind]
    return (*lines, report.call) if report.call else tuple(lines)


def item_sections(
    report: ItemReport, verbose: bool = False, max_items: int = MAX_ITEMS
) -> list[Section]:
    """The sections of a summary, in reading order, with at most ``max_items`` rows of items."""
    items = report.source.items()
    source = report.source
    bic = source.criterion + float(np.log(source.n_responses)) * source.n_parameters
    fit = (
        f"-2LL = {source.criterion:.3f}, {count(source.n_parameters, 'parameter')}, "
        f"AIC = {source.criterion + 2 * source.n_parameters:.3f}, BIC = {bic:.3f}"
    )
    return [
        _data_section(report, items),
        Section("Equation", lines=equation(report.words, items)),
        *_effect_section(source.effects()),
        items_section(items, max_items),
        _person_section(report),
        _pile_section(source),
        Section("Model fit", lines=(fit,), sentences=(source.approximation,)),
        convergence_section(source.certificate, verbose),
    ]


def _data_section(report: ItemReport, items: ItemParameters) -> Section:
    n_items = len(items.items)
    persons = person_count(report.source)
    missing = persons * n_items - report.source.n_responses
    text = (
        f"{count(report.source.n_responses, 'response')} of {count(persons, 'person')} to "
        f"{count(n_items, 'item')}"
    )
    if missing > 0:
        text += f"; {count(missing, 'pair')} of person and item without a response"
    return Section("Persons and items", lines=(f"{text}.",), sentences=(report.outcome,))


def person_count(source: Source) -> int:
    """Persons who gave responses."""
    if isinstance(source, SlopeSource):
        return source.fit.problem.n_persons
    return len(source.rows.persons)


def equation(words: ItemWords, items: ItemParameters) -> tuple[str, ...]:
    """The model as equations: persons p, items i, steps s."""
    link = items.link
    several = max(items.n_categories) > 2
    if not several:
        left = f"{link} P(y_pi = 1)"
    elif items.kind == "graded":
        left = f"{link} P(y_pi >= s)"
    else:
        left = "log P(y_pi = s) / P(y_pi = s - 1)"
    step = "is" if several and words.model not in ("rsm", "rasch") else "i"
    tail = " - tau_s" if several and words.model in ("rsm", "rasch") else ""
    if items.has_slopes:
        slope = "a" if SLOPE_MODELS[words.model][2] else "a_i"
        right = f"{slope} theta_p + d_{step}"
        variance = "1"
    else:
        person = words.model not in ("empty", "items")
        right = (f"theta_p + b_{step}" if person else f"b_{step}") + tail
        variance = "tau2_p"
    lines = [f"{left} = {right}"]
    if words.model not in ("empty", "items"):
        own = split_terms(words.persons)
        own += [words.dif] if words.dif and words.dif not in own else []
        groups = [f"V_{group}" for group in words.person_groups]
        mean = " + ".join([*(f"gamma {t}" for t in own), *groups]) or "0"
        lines.append(f"theta_p ~ N({mean}, {variance})")
        lines += [f"{group} ~ N(0, tau2_{group[2:]})" for group in groups]
    if words.features:
        residual = " + U_i,  U_i ~ N(0, tau2_i)" if words.model == "lltm_error" else ""
        lines.append(f"b_i = gamma_0 + features ({words.features}){residual}")
    elif words.model in ("random_items", "items"):
        lines.append("b_i = gamma_0 + U_i,  U_i ~ N(0, tau2_i)")
    if words.testlets:
        lines.append(f"random effects of {join_words(list(words.testlets))} (testlets) are added")
    if words.dif:
        of = "item features" if words.features else f"items; those of {items.items[0]} are zero"
        lines.append(f"DIF: differences in the effect of {words.dif} between {of}")
    if words.slopes:
        lines.append(f"effects of {join_words(list(words.slopes))} vary over persons")
    return tuple(lines)


def _effect_section(effects: tuple[Effect, ...]) -> list[Section]:
    if not effects:
        return []
    places = decimals_for([e.std_error for e in effects])
    body = []
    for e in effects:
        z = e.estimate / e.std_error if e.std_error > 0.0 else np.nan
        p = float(2.0 * normal_tail(abs(z))) if np.isfinite(z) else np.nan
        body.append(
            (
                e.term,
                number(e.estimate, places),
                number(e.std_error, places),
                number(z, 2),
                p_text(p) if p == p else ".",
            )
        )
    grid = Grid(("effect", "estimate", "std_error", "z", "p"), tuple(body))
    sentence = "Positive effects make the higher response more likely (easier, or more of it)."
    return [Section("Effects on the link scale", grid=grid, sentences=(sentence,))]


def items_section(items: ItemParameters, max_items: int = MAX_ITEMS) -> Section:
    """Easiness, difficulty and discrimination of the items."""
    several = max(items.n_categories) > 2
    header = ["item", *(["step"] if several else []), "mean", "easiness", "std_error", "difficulty"]
    if items.has_slopes:
        header += ["discrimination", "std_error"]
    errors, difficulty = items.step_errors, items.difficulty
    places = min(3, decimals_for([*errors, *items.slope_errors]))
    body: list[tuple[str, ...]] = []
    step = 0
    for t, i in enumerate(items.item_of):
        step = step + 1 if t and items.item_of[t - 1] == i else 1
        first = step == 1
        row = [items.items[i] if first else "", *([str(step)] if several else [])]
        row += [
            number(items.mean_score[i], 3) if first else "",
            number(items.steps[t], places),
            number(errors[t], places),
            number(difficulty[t], places),
        ]
        if items.has_slopes:
            row += [
                number(items.slopes[i], places) if first else "",
                number(items.slope_errors[i], places) if first else "",
            ]
        body.append(tuple(row))
    shown = tuple(body[:max_items])
    left = len(body) - len(shown)
    sentences = [items.sentence]
    if left:
        sentences.append(f"{count(left, 'further row')}: items() has them all.")
    return Section("Items", grid=Grid(tuple(header), shown), sentences=tuple(sentences))


def _person_section(report: ItemReport) -> Section:
    try:
        persons = report.source.persons()
    except InferenceError:
        return Section("Persons", sentences=("Persons do not differ in this model.",))
    found = reliability(persons)
    spread = float(np.std(persons.estimate))
    return Section(
        "Persons",
        lines=(
            f"{len(persons.persons)} persons, estimates by {persons.method}: mean "
            f"{persons.estimate.mean():.3f}, SD {spread:.3f}, mean standard error "
            f"{persons.std_error.mean():.3f}",
        ),
        sentences=(found.sentence,),
    )


def _pile_section(source: Source) -> Section:
    piles = source.piles()
    if not piles:
        return Section("Variances")
    places = decimals_for([p.estimate for p in piles])
    body = tuple(
        (
            p.group,
            p.component,
            number(p.estimate, places),
            number(float(np.sqrt(p.estimate)), places),
            share(p.share),
        )
        for p in piles
    )
    grid = Grid(("group", "component", "variance", "SD", "ICC"), body, n_text_columns=2)
    what = "ICC: share of the latent variance, with pi^2/3 = 3.29 (logit) or 1 (probit) within."
    if isinstance(source, SlopeSource):
        what = "ICC: share of the variance between persons."
    said = (what,) if any(p.share == p.share for p in piles) else ()
    return Section("Variances", grid=grid, sentences=said)
