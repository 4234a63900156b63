"""Item response models by name: the formula of each, or that it needs slopes.

Vocabulary of De Boeck & Wilson 2004 (*Explanatory Item Response Models*): Rasch, LLTM (linear
logistic test model), LLTM plus error, latent regression, random items, DIF.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from multilevel.errors import ModelError

#: Name -> (what it says about items, whether persons and items vary at random).
ROW_MODELS: Mapping[str, tuple[str, bool, bool]] = {
    "empty": ("one easiness for all, no random effects", False, False),
    "persons": ("one easiness for all, persons random", True, False),
    "items": ("no differences between persons, items random", False, True),
    "rasch": ("Rasch: a fixed easiness for each item, persons random", True, False),
    "random_items": ("persons and items both random", True, True),
    "lltm": ("LLTM: item features explain all of easiness, persons random", True, False),
    "lltm_error": ("LLTM plus error: item features and a random item residual", True, True),
    "rsm": ("rating scale: an easiness for each item, steps shared by all items", True, False),
    "pcm": ("partial credit: steps of its own for each item", True, False),
}
#: Name -> (what it is, kind of item, whether slopes are equal).
SLOPE_MODELS: Mapping[str, tuple[str, str, bool]] = {
    "1pl": ("one-parameter model: an easiness for each item, one slope", "graded", True),
    "2pl": ("two-parameter model: easiness and slope for each item", "graded", False),
    "graded_equal": ("graded response model with one slope for all items", "graded", True),
    "graded": ("graded response model: thresholds and slope for each item", "graded", False),
    "pcm_equal": ("partial credit model with one slope for all items", "partial_credit", True),
    "gpcm": ("generalized partial credit: steps and slope for each item", "partial_credit", False),
}
ORDINAL = ("cumulative", "adjacent")
FAMILIES = ("binomial", *ORDINAL)
_NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class ItemWords:
    """What the caller of ``irt`` said.

    Attributes
    ----------
    person, item, response : column names.
    model : a key of ``ROW_MODELS`` or ``SLOPE_MODELS``.
    features : right-hand side of item features, or "".
    persons : right-hand side of person predictors (latent regression), or "".
    dif : person predictor whose effect may differ between items (features), or "".
    slopes : item features whose effect varies over persons.
    person_groups, testlets : grouping columns of persons, of items.
    family : ``"binomial"``, or ``"cumulative"`` / ``"adjacent"`` for ordered categories.
    """

    person: str
    item: str
    response: str
    model: str
    features: str = ""
    persons: str = ""
    dif: str = ""
    slopes: tuple[str, ...] = ()
    person_groups: tuple[str, ...] = ()
    testlets: tuple[str, ...] = ()
    family: str = "binomial"


@dataclass(frozen=True)
class ItemFormula:
    """An item response model as a request to ``fit``.

    Attributes
    ----------
    formula : the formula.
    family : its family.
    options : further arguments of ``fit``.
    """

    formula: str
    family: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def call(self) -> str:
        """The call of ``fit`` that this stands for."""
        more = "".join(f', {key}="{value}"' for key, value in self.options.items())
        return f'fit("{self.formula}", data, family="{self.family}"{more})'


def check_words(words: ItemWords) -> None:
    """Refuse what the named model does not take.

    Raises
    ------
    ModelError : an unknown model; features, slopes... that the model cannot use; missing ones.
    """
    known = {**ROW_MODELS, **SLOPE_MODELS}
    if words.model not in known:
        listed = "; ".join(f"{name!r} ({value[0]})" for name, value in known.items())
        raise ModelError(f"model= is one of {listed}.", repr(words.model), 'write model="rasch"')
    if words.family not in FAMILIES:
        raise ModelError(
            f"family= of an item response model is one of {', '.join(FAMILIES)}.",
            repr(words.family),
            'write "binomial" for two categories, "cumulative" or "adjacent" for ordered ones',
        )
    needs = words.model in ("lltm", "lltm_error")
    if needs != bool(words.features):
        raise ModelError(
            "Item features belong to the LLTM, and the LLTM needs them.",
            f"model={words.model!r}, features={words.features!r}",
            'write model="lltm_error", features="a + b" (or "lltm": no item residual)'
            if words.features
            else 'name the columns that describe items: features="a + b"',
        )
    by_slopes = words.model in SLOPE_MODELS
    no_persons = words.model in ("empty", "items")
    for name, value, wrong in (
        ("dif", words.dif, no_persons),
        ("slopes", words.slopes, by_slopes or no_persons),
        ("person_groups", words.person_groups, no_persons),
        ("testlets", words.testlets, by_slopes),
        ("persons", words.persons, no_persons),
    ):
        if value and wrong:
            raise ModelError(
                f"{name}= goes with models that have what it needs: persons at random, and items "
                "without slopes of their own.",
                f"model={words.model!r}, {name}={value!r}",
                f'leave {name}= out, or choose another model, such as "rasch"',
            )
    if by_slopes and len(words.person_groups) > 1:
        raise ModelError(
            "Models with slopes take one grouping of persons.",
            f"person_groups={words.person_groups!r}",
            'keep one of them, or use model="rasch", which takes any number',
        )


def item_formula(words: ItemWords) -> ItemFormula:
    """The formula of a model without slopes.

    Steps of partial credit and rating scale items follow Masters 1982 and Andrich 1978: an item's
    steps are the thresholds of an adjacent-category model.

    Raises
    ------
    ModelError : see ``check_words``; rating scale and partial credit with another family.
    """
    check_words(words)
    _, with_persons, with_items = ROW_MODELS[words.model]
    family, options = words.family, {}
    if words.model in ("rsm", "pcm"):
        family = "adjacent" if family == "binomial" else family
        if family != "adjacent":
            raise ModelError(
                "Rating scale and partial credit are adjacent-category models.",
                f"family={words.family!r}",
                'leave family= out; model="rasch", family="cumulative" is the graded counterpart',
            )
    if words.model == "pcm":
        options["thresholds"] = f"~ 0 + {words.item}"
    terms = [*_item_terms(words, family), *_person_terms(words)]
    slopes = " + ".join(["1", *words.slopes])
    if with_persons:
        terms += [f"(1 | {group})" for group in words.person_groups]
        terms.append(f"({slopes} | {words.person})")
    if words.testlets:
        terms += [f"(1 | {testlet})" for testlet in words.testlets]
    if with_items:
        terms.append(f"(1 | {words.item})")
    return ItemFormula(f"{words.response} ~ {' + '.join(terms)}", family, options)


def _item_terms(words: ItemWords, family: str) -> list[str]:
    if words.model in ("lltm", "lltm_error"):
        return split_terms(words.features)
    if words.model in ("rasch", "rsm"):
        # thresholds take the place of the intercept, so that one item is the reference
        return ["0", words.item] if family == "binomial" else [words.item]
    return ["0"] if words.model == "pcm" else ["1"]


def _person_terms(words: ItemWords) -> list[str]:
    terms = split_terms(words.persons)
    if not words.dif:
        return terms
    if words.dif not in terms:
        terms.append(words.dif)
    if words.model in ("lltm", "lltm_error"):
        with_what = split_terms(words.features)
    elif words.model in ("rasch", "rsm"):
        with_what = [words.item]
    else:
        raise ModelError(
            "DIF is an interaction of a person predictor with items or their features.",
            f"model={words.model!r}",
            'use model="rasch" (items) or "lltm_error" (item features)',
        )
    return [*terms, *(f"{feature}:{words.dif}" for feature in with_what)]


def split_terms(text: str) -> list[str]:
    """``"a + b:c"`` as ``["a", "b:c"]``; plus signs inside brackets do not split."""
    parts, depth, start = [], 0, 0
    for k, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if sign == "+" and depth == 0:
            parts.append(text[start:k])
            start = k + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def names_in(text: str) -> list[str]:
    """Identifiers of a right-hand side, in order."""
    return list(dict.fromkeys(_NAME.findall(text)))


def rhs(words: str | Sequence[str] | None) -> str:
    """A right-hand side from text or a list of terms; a leading ``~`` is dropped."""
    if words is None:
        return ""
    text = words if isinstance(words, str) else " + ".join(words)
    return text.strip().removeprefix("~").strip()
