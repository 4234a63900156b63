"""The report of an item response model: what was found about items and persons, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_tail
from multilevel.interpret.irt.parameters import ItemParameters, reliability
from multilevel.interpret.irt.source import Pile
from multilevel.model.irt import ROW_MODELS, SLOPE_MODELS
from multilevel.report.document import Document, Part, Picture, frame_grid
from multilevel.report.irt import ItemReport, item_sections, item_title, person_count
from multilevel.report.json import certificate_json, plain_number
from multilevel.report.layout import Section, count, join_words, short
from multilevel.report.methods_paragraph import convergence_sentence
from multilevel.report.summary import p_text

#: Pictures of a report in their order, with their headings.
PICTURES = {
    "wright": "Persons and items on one axis",
    "curves": "Characteristic curves",
    "information": "Information",
    "item_fit": "Fit of the items",
}
#: Effects that a paragraph names; more are in the table.
_MOST_EFFECTS = 8


def build_item_document(
    report: ItemReport,
    *,
    tables: Mapping[str, pd.DataFrame] | None = None,
    pictures: Sequence[Picture] = (),
    version: str = "",
) -> Document:
    """Lay an item response model out as one document.

    Parameters
    ----------
    tables : further tables by heading, such as the fit of items; ``attrs["sentence"]`` is printed.
    pictures : in the order of printing.
    version : of this package, for the methods paragraph; empty leaves it out.
    """
    head = item_title(report)
    parts: list[Part] = []
    for section in item_sections(report, verbose=True, max_items=10_000):
        if section.heading == "Model fit":
            # what the model says about items comes before how it was computed
            parts += [_table(name, table) for name, table in (tables or {}).items()]
        parts.append(Part(section))
    if pictures:
        parts.append(Part(Section("Pictures"), pictures=tuple(pictures)))
    paragraph = item_methods_paragraph(report, version)
    parts.append(Part(Section("Methods paragraph", sentences=(paragraph,))))
    return Document(head[0], "; ".join(head[1:]), tuple(p for p in parts if not p.is_empty))


def _table(heading: str, table: pd.DataFrame) -> Part:
    note = str(table.attrs.get("sentence", ""))
    return Part(Section(heading, grid=frame_grid(table), sentences=(note,) if note else ()))


def drawn_item_pictures(report: ItemReport) -> list[Picture]:
    """The pictures of a report; those that need persons are left out where persons do not differ.

    Raises
    ------
    MissingPackageError : plotnine is not installed.
    """
    from multilevel.report.plots.backend import to_png
    from multilevel.report.plots.irt import check_item_picture, draw_item_picture

    out = []
    for name, heading in PICTURES.items():
        check_item_picture(name, {})
        try:
            png = to_png(draw_item_picture(name, report.source, {}))
        except InferenceError:
            if name != "wright":
                raise
            continue  # no random persons
        out.append(Picture(heading, heading, png))
    return out


def item_methods_paragraph(report: ItemReport, version: str = "") -> str:
    """What was fitted and found, in the words of a methods section."""
    words, source = report.words, report.source
    items = source.items()
    kind = (ROW_MODELS.get(words.model) or SLOPE_MODELS[words.model])[0]
    package = f" with the Python package multilevel {version}" if version else ""
    said = [
        f"An item response model ({kind}; {items.link} link) was fitted{package} to "
        f"{count(source.n_responses, 'response')} of {count(person_count(source), 'person')} to "
        f"{count(len(items.items), 'item')}.",
        report.outcome,
        source.approximation,
        convergence_sentence(source.certificate),
        *_extras(report),
        f"The model has {count(source.n_parameters, 'parameter')}; -2 log-likelihood is "
        f"{source.criterion:.2f}, AIC {source.criterion + 2 * source.n_parameters:.2f}.",
        _places(items),
        _variances(source.piles()),
        _persons(report),
        *_effects(report),
    ]
    return " ".join(text for text in said if text)


def _extras(report: ItemReport) -> list[str]:
    words, said = report.words, []
    if words.person_groups:
        said.append(f"Persons lie in groups ({join_words(list(words.person_groups))}).")
    if words.testlets:
        said.append(f"Items lie in testlets ({join_words(list(words.testlets))}).")
    if words.slopes:
        said.append(f"Effects of {join_words(list(words.slopes))} vary over persons.")
    return said


def _places(items: ItemParameters) -> str:
    easiness = items.item_easiness()
    low, high = int(np.argmin(easiness)), int(np.argmax(easiness))
    text = (
        f"Easiness ranges from {short(float(easiness[low]))} ({items.items[low]}) to "
        f"{short(float(easiness[high]))} ({items.items[high]})"
    )
    if items.has_slopes and np.ptp(items.slopes) > 0.0:
        a, b = int(np.argmin(items.slopes)), int(np.argmax(items.slopes))
        text += (
            f", discrimination from {short(float(items.slopes[a]))} ({items.items[a]}) to "
            f"{short(float(items.slopes[b]))} ({items.items[b]})"
        )
    return f"{text}."


def _variances(piles: tuple[Pile, ...]) -> str:
    free = [p for p in piles if "fixed" not in p.component]
    if not free:
        return ""
    said = [
        f"{short(p.estimate)} ({p.group}"
        + ("" if p.component == "(Intercept)" else f", {p.component}")
        + (f"; ICC {p.share:.2f}" if p.share == p.share else "")
        + ")"
        for p in free
    ]
    return f"Variances of random effects are {join_words(said)}."


def _persons(report: ItemReport) -> str:
    try:
        return reliability(report.source.persons()).sentence
    except InferenceError:
        return ""


def _effects(report: ItemReport) -> list[str]:
    effects = report.source.effects()
    said = []
    for e in effects[:_MOST_EFFECTS]:
        text = f"{e.term}: {short(e.estimate)}, SE = {short(e.std_error)}"
        if e.std_error > 0.0:
            p = float(2.0 * normal_tail(abs(e.estimate / e.std_error)))
            text += f", p {p_text(p)}" if p < 0.0005 else f", p = {p_text(p)}"
        said.append(text)
    if not said:
        return []
    more = "" if len(said) == len(effects) else f" (the first {len(said)} of {len(effects)})"
    return [f"Effects on the link scale{more} were {'; '.join(said)}."]


def item_json(report: ItemReport) -> dict[str, Any]:
    """All numbers under stable keys; numbers that do not exist are ``None``.

    Keys: ``model, description, call, response`` (what is modelled), ``link, n, n_persons,
    n_items, minus2_loglik, n_par, aic, bic, approximation, items, effects, variances,
    reliability, status, certificate``.
    """
    words, source = report.words, report.source
    items = source.items()
    k, n_par = source.criterion, source.n_parameters
    try:
        found = reliability(source.persons())
        trust = {
            "estimate": plain_number(found.estimate),
            "marginal": plain_number(found.marginal),
            "person_variance": plain_number(found.variance),
        }
    except InferenceError:
        trust = None
    return {
        "model": words.model,
        "description": (ROW_MODELS.get(words.model) or SLOPE_MODELS[words.model])[0],
        "call": report.call or None,
        "response": report.outcome,
        "link": items.link,
        "n": source.n_responses,
        "n_persons": person_count(source),
        "n_items": len(items.items),
        "minus2_loglik": plain_number(k),
        "n_par": n_par,
        "aic": plain_number(k + 2.0 * n_par),
        "bic": plain_number(k + float(np.log(source.n_responses)) * n_par),
        "approximation": source.approximation,
        "items": _items(items),
        "effects": [
            {
                "term": e.term,
                "estimate": plain_number(e.estimate),
                "std_error": plain_number(e.std_error),
            }
            for e in source.effects()
        ],
        "variances": [
            {
                "group": p.group,
                "component": p.component,
                "estimate": plain_number(p.estimate),
                "icc": plain_number(p.share),
            }
            for p in source.piles()
        ],
        "reliability": trust,
        "status": source.certificate.status,
        "certificate": certificate_json(source.certificate),
    }


def _items(items: ItemParameters) -> list[dict[str, Any]]:
    easiness, errors, difficulty = items.steps, items.step_errors, items.difficulty
    out = []
    for i, name in enumerate(items.items):
        at = np.flatnonzero(items.item_of == i)
        entry: dict[str, Any] = {
            "item": name,
            "mean": plain_number(float(items.mean_score[i])),
            "easiness": [plain_number(float(easiness[t])) for t in at],
            "std_error": [plain_number(float(errors[t])) for t in at],
            "difficulty": [plain_number(float(difficulty[t])) for t in at],
        }
        if items.has_slopes:
            entry["discrimination"] = plain_number(float(items.slopes[i]))
            entry["discrimination_std_error"] = plain_number(float(items.slope_errors[i]))
        out.append(entry)
    return out
