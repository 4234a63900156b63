"""The door to item response models: responses in, items and persons out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from multilevel.api.fit import fit
from multilevel.api.irt_result import ItemResponseFit
from multilevel.api.irt_slopes import slope_setup
from multilevel.design.blocks import NOT_CERTIFIED
from multilevel.errors import ConvergenceWarning, EstimationError, ModelError
from multilevel.estimate.irt import fit_items
from multilevel.interpret.irt.by_rows import CrossedRows
from multilevel.interpret.irt.source import RowSource, SlopeSource
from multilevel.model.irt import SLOPE_MODELS, ItemWords, check_words, item_formula, rhs
from multilevel.report.irt import ItemReport
from multilevel.tables.levels import codes as level_codes
from multilevel.tables.responses import ResponseMatrix, long_responses, response_matrix
from multilevel.tables.table import Table

if TYPE_CHECKING:
    from multilevel.estimate.generalized.accuracy import Accuracy

_BINARY_MODELS = ("1pl", "2pl")


def irt(
    data: Any,
    *,
    person: str,
    item: str = "item",
    response: str = "response",
    items: Sequence[str] | None = None,
    model: str = "rasch",
    features: str | Sequence[str] | None = None,
    persons: str | Sequence[str] | None = None,
    dif: str | None = None,
    slopes: str | Sequence[str] = (),
    person_groups: str | Sequence[str] = (),
    testlets: str | Sequence[str] = (),
    family: str = "binomial",
    link: str = "logit",
    event: Any = None,
    categories: Sequence[Any] = (),
    n_quad: int | None = None,
    accuracy: Accuracy = "report",
    allow: Sequence[str] = (),
) -> ItemResponseFit:
    """Fit an (explanatory) item response model: persons crossed with items.

    Models without slopes are multilevel models, fitted by ``fit``; the summary shows the call.
    Models with slopes (discriminations) integrate over persons by marginal maximum likelihood.

    Parameters
    ----------
    data : a table with one row per response, or (``items=``) one row per person.
    person : column with the person's id.
    item, response : columns of a long table; names for the new columns of a wide one.
    items : columns of a wide table that hold the responses; missing ones are left out, their
        persons are kept.
    model : ``"empty"``, ``"persons"``, ``"items"`` (the empty models of the ladder), ``"rasch"``
        (fixed items), ``"random_items"``, ``"lltm"``, ``"lltm_error"``; ``"rsm"`` (rating scale),
        ``"pcm"`` (partial credit); with slopes ``"2pl"``, ``"graded"``, ``"gpcm"``, and with one
        slope for all items ``"1pl"``, ``"graded_equal"``, ``"pcm_equal"``.
    features : item features that explain easiness (LLTM): ``"a + b"`` or a list.
    persons : person predictors (latent regression).
    dif : a person predictor whose effect may differ between items (Rasch, models with slopes) or
        features (LLTM).
    slopes : item features whose effect varies over persons.
    person_groups, testlets : columns of groups of persons, of items: random intercepts. Models
        with slopes take one grouping of persons: theta = group effect + person effect.
    family : ``"binomial"`` for two categories; ``"cumulative"`` or ``"adjacent"`` for ordered ones
        (models without slopes).
    link : ``"logit"`` or ``"probit"``.
    event : the response that counts as 1; None for the last.
    categories : order of the responses, lowest first.
    n_quad : quadrature points (1 is Laplace), see ``fit``; for models with slopes the number of
        points of the person axis to begin with (None: 61).
    accuracy, allow : see ``fit``.

    Returns
    -------
    ItemResponseFit : prints as a summary.

    Raises
    ------
    ModelError, FormulaError : a model that is not defined.
    TableError, DesignError : data that do not hold what the model needs.
    EstimationError : estimates that are not shown to be the optimum.

    Examples
    --------
    >>> import multilevel as mlm
    >>> verbal = mlm.load_verbagg()
    >>> lltm = mlm.irt(verbal, person="id", response="r2", model="lltm",
    ...                features="btype + situ + mode", n_quad=1)
    >>> lltm.call
    'fit("r2 ~ btype + situ + mode + (1 | id)", data, family="binomial")'
    """
    words = ItemWords(
        person, item, response, str(model).lower(), rhs(features), rhs(persons), dif or "",
        _names(slopes), _names(person_groups), _names(testlets), family,
    )  # fmt: skip
    check_words(words)
    if link not in ("logit", "probit"):
        raise ModelError(
            "link= of an item response model is 'logit' or 'probit'.", repr(link), "choose one"
        )
    table = long_responses(data, person=person, item=item, response=response, items=items)
    if words.model in SLOPE_MODELS:
        return _with_slopes(words, table, link, event, categories, n_quad, tuple(allow))
    options = {
        "event": event, "categories": categories, "n_quad": n_quad, "accuracy": accuracy,
        "allow": allow,
    }  # fmt: skip
    return _by_rows(words, table, link, options)


def _by_rows(words: ItemWords, table: Table, link: str, options: dict[str, Any]) -> ItemResponseFit:
    """Models without slopes, by ``fit``; ``options`` are its arguments."""
    request = item_formula(words)
    if request.family == "adjacent" and link != "logit":
        raise ModelError(
            "Adjacent categories need the logit link.", f"link={link!r}", "leave link= out"
        )
    found = fit(
        request.formula,
        table,
        family=request.family,
        link=None if link == "logit" else link,
        thresholds=request.options.get("thresholds"),
        **options,
    )
    rows = found.rows
    item_codes, item_labels = level_codes(table.series(words.item).iloc[rows])
    person_codes, person_labels = level_codes(table.series(words.person).iloc[rows])
    source = RowSource(
        CrossedRows(
            found.design, found.fit, found._objective(), words.item, words.person, item_codes,
            person_codes, tuple(item_labels.tolist()), tuple(person_labels.tolist()),
            found._evidence(),
        )
    )  # fmt: skip
    outcome = found.design.response.sentence
    call = request.call if link == "logit" else request.call[:-1] + f', link="{link}")'
    return ItemResponseFit(ItemReport(words, call, _sentence(outcome), source), found)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _with_slopes(
    words: ItemWords,
    table: Table,
    link: str,
    event: Any,
    categories: Sequence[Any],
    points: int | None,
    allow: tuple[str, ...],
) -> ItemResponseFit:
    """Marginal maximum likelihood for models with slopes."""
    if words.family != "binomial":
        raise ModelError(
            "Models with slopes say by their name how categories are ordered.",
            f"model={words.model!r}, family={words.family!r}",
            'leave family= out; "graded" is cumulative, "gpcm" adjacent',
        )
    matrix = response_matrix(
        table, person=words.person, item=words.item, response=words.response, event=event,
        categories=categories,
    )  # fmt: skip
    counts = tuple(len(own) for own in matrix.categories)
    if words.model in _BINARY_MODELS and max(counts) > 2:
        i = int(np.argmax(counts))
        raise ModelError(
            f'model="{words.model}" is for two kinds of response.',
            f"{matrix.items[i]} has {counts[i]}: {', '.join(map(repr, matrix.categories[i][:6]))}",
            'use model="graded" or "gpcm", or dichotomise the responses',
        )
    setup = slope_setup(words, table, matrix, link)
    found = fit_items(setup.problem, points=61 if points is None else points)
    if not found.certificate.is_certified:
        if NOT_CERTIFIED not in allow:
            raise EstimationError(
                "The estimates must be shown to be at the optimum before they are used.",
                found.certificate.sentence,
                "look for items that hardly vary or hardly relate to the others, and leave them "
                f'out; or look at the numbers all the same with allow=("{NOT_CERTIFIED}",)',
            )
        warnings.warn(found.certificate.sentence, ConvergenceWarning, stacklevel=3)
    source = SlopeSource(
        found, setup.matrix, setup.names, setup.variants, "".join(words.person_groups)
    )
    return ItemResponseFit(ItemReport(words, "", _outcome(words, setup.matrix), source))


def _outcome(words: ItemWords, matrix: ResponseMatrix) -> str:
    longest = max(matrix.categories, key=len)
    if len(longest) == 2:
        return f"Modelled: the probability of {words.response} = {longest[1]!r}."
    shown = " < ".join(repr(c) for c in longest)
    text = f"Modelled: the ordered responses {shown}."
    fewer = [n for n, own in zip(matrix.items, matrix.categories, strict=True)
             if len(own) < len(longest)]  # fmt: skip
    if fewer:
        text += f" Only some of them occur in {', '.join(fewer[:5])}."
    return text
