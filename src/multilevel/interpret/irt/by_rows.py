"""Items and persons of an item response model that was fitted by rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.generalized_replay import PartRows
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.interpret.generalized.effect_variance import ConditionalVariance
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.irt.parameters import ItemParameters, PersonParameters
from multilevel.likelihood.generalized.irt_categories import ItemKind, ItemLink
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.model.families.categories import natural_thresholds

Array = NDArray[np.float64]
Codes = NDArray[np.int32]
_INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class CrossedRows:
    """A fit whose rows are responses of persons to items.

    Attributes
    ----------
    design, fit, objective : the fit, the objective set at its estimates.
    item, person : names of the columns.
    item_codes, person_codes : (n,) of the analysed rows.
    items, persons : labels.
    evidence : the same fit, for the uncertainty of its random effects.
    """

    design: GeneralizedDesign
    fit: GeneralizedFit
    objective: GeneralizedObjective
    item: str
    person: str
    item_codes: Codes
    person_codes: Codes
    items: tuple[Any, ...]
    persons: tuple[Any, ...]
    evidence: GeneralizedEvidence

    def effects(self, t: int) -> Array:
        """(J, q) modes of the random effects of block t."""
        return np.asarray(self.fit.modes[t] @ self.fit.relative_factors[t].T)

    def covariances(self, t: int) -> Array:
        """(J, q, q) covariance of the effects of block t given data and parameters."""
        L = self.fit.relative_factors[t]
        return np.asarray(L @ self.objective.mode_covariance(t) @ L.T)

    def block(self, name: str) -> int | None:
        """Position of a grouping factor, or None."""
        names = [block.group for block in self.design.blocks]
        return names.index(name) if name in names else None

    @property
    def score(self) -> Array:
        """(n,) category numbers (0 and 1 for two)."""
        return self.design.response.y

    @property
    def n_categories(self) -> int:
        """Categories of the response."""
        return 2 if self.design.family.name == "binomial" else len(self.design.response.categories)


def is_constant_within(columns: Array, codes: Codes, n_levels: int) -> NDArray[np.bool_]:
    """(p,) whether each column (n, p) has one value within every level."""
    out = np.ones(columns.shape[1], dtype=bool)
    for j in range(columns.shape[1]):
        low, high = np.full(n_levels, np.inf), np.full(n_levels, -np.inf)
        np.minimum.at(low, codes, columns[:, j])
        np.maximum.at(high, codes, columns[:, j])
        out[j] = bool(np.all(high <= low))
    return out


def first_rows(codes: Codes, n_levels: int) -> NDArray[np.intp]:
    """(J,) a row of each level."""
    first = np.zeros(n_levels, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first


def kind_of(design: GeneralizedDesign) -> tuple[ItemKind, ItemLink]:
    """How predictors make probabilities.

    Raises
    ------
    InferenceError : families and links that item response models do not have here.
    """
    family = design.family
    link: ItemLink = "probit" if family.link == "probit" else "logit"
    if family.link not in ("logit", "probit"):
        raise InferenceError(
            "Item tables and curves exist for the logit and probit links.",
            f"link {family.link}",
            "fit with link='logit'",
        )
    if family.name == "adjacent" or (family.name == "binomial" and link == "logit"):
        return "partial_credit", link
    return "graded", link


def parameters_of_rows(rows: CrossedRows) -> ItemParameters:
    """Easiness of every item: the fixed part that depends on the item alone, plus random effects
    of the item and of groups of items. Person predictors and interactions with them are at zero.
    """
    kind, link = kind_of(rows.design)
    n_items, S = len(rows.items), rows.n_categories - 1
    first = first_rows(rows.item_codes, n_items)
    steps, L = _fixed_steps(rows, first, S)
    vcov = L @ rows.fit.vcov @ L.T
    item_of = np.repeat(np.arange(n_items), S)
    shared = _item_blocks(rows, first)
    for t, a in shared:
        steps = steps + rows.effects(t)[rows.design.blocks[t].codes[first][item_of], a]
    if shared:
        vcov = _random_covariance(rows, first, shared, L)
    full = np.zeros((n_items + n_items * S, n_items + n_items * S))
    full[n_items:, n_items:] = vcov
    counts = np.bincount(rows.item_codes, minlength=n_items).astype(np.float64)
    scores = np.bincount(rows.item_codes, weights=rows.score, minlength=n_items)
    return ItemParameters(
        items=tuple(str(name) for name in rows.items),
        n_categories=(S + 1,) * n_items,
        kind=kind,
        link=link,
        slopes=np.ones(n_items),
        steps=steps,
        vcov=full,
        n=counts,
        mean_score=scores / counts,
        theta_variance=_person_variance(rows),
        has_slopes=False,
        sentence=_RANDOM if shared else _FIXED,
    )


_FIXED = (
    "Easiness is the predictor of an item for a person at 0 (person predictors at their zero); "
    "difficulty = -easiness; standard errors from the observed information."
)
_RANDOM = (
    "Easiness is the fixed part plus the random effects of the item (conditional modes); "
    "difficulty = -easiness; standard errors by the delta method, uncertainty of the random "
    "effects given the data and of all parameters."
)


def _item_blocks(rows: CrossedRows, first: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Blocks whose level depends on the item alone, with the position of their intercept."""
    return [
        (t, block.names.index(_INTERCEPT))
        for t, block in enumerate(rows.design.blocks)
        if _INTERCEPT in block.names
        and is_constant_within(
            block.codes[:, None].astype(np.float64), rows.item_codes, len(first)
        )[0]
    ]


def _random_covariance(
    rows: CrossedRows, first: NDArray[np.intp], shared: list[tuple[int, int]], L: Array
) -> Array:
    """Covariance of the steps (I S, I S) where items have random effects; uncertainty given the
    parameters is taken as independent between items."""
    n_items, S = len(first), len(L) // len(first)
    columns = [np.zeros((n_items, len(block.names))) for block in rows.design.blocks]
    codes = [np.full(n_items, -1, dtype=np.int32) for _ in rows.design.blocks]
    for t, a in shared:
        columns[t][:, a] = 1.0
        codes[t] = rows.design.blocks[t].codes[first]
    places = PartRows(
        tuple(part.X[first] for part in rows.design.parts),
        tuple(None for _ in rows.design.parts),
        tuple(codes),
        tuple(columns),
        rows.design.mean.rows,
        {},
    )
    variance = ConditionalVariance(rows.evidence)
    r = rows.evidence.random.index(0)
    given = np.repeat(variance.given_parameters(places)[:, r, r], S)
    moved = L + np.repeat(variance.movement(places)[:, 0].T, S, axis=0)
    item_of = np.repeat(np.arange(n_items), S)
    own = np.where(item_of[:, None] == item_of[None], given[:, None], 0.0)
    return np.asarray(own + moved @ rows.fit.vcov @ moved.T)


def _fixed_steps(rows: CrossedRows, first: NDArray[np.intp], S: int) -> tuple[Array, Array]:
    """Fixed part of the steps (I S,) and how it moves with the parameters (I S, P)."""
    n_items, psi = len(first), rows.fit.psi
    X = rows.design.parts[0].X
    own = X[first] * is_constant_within(X, rows.item_codes, n_items)
    L = np.zeros((n_items, S, len(psi)))
    L[:, :, rows.fit.fixed_slices[0]] = own[:, None]
    steps = np.repeat((own @ rows.fit.beta)[:, None], S, axis=1)
    if rows.design.family.name != "binomial":
        columns = [
            part.X[first] * is_constant_within(part.X, rows.item_codes, n_items)
            for part in rows.design.parts[1:]
        ]
        slices = rows.fit.fixed_slices[1:]
        for i in range(n_items):
            cuts = np.array([X[i] @ psi[at] for X, at in zip(columns, slices, strict=True)])
            tau, jacobian = natural_thresholds(rows.design.family, cuts)
            steps[i] -= tau
            for c, (X, at) in enumerate(zip(columns, slices, strict=True)):
                L[i, :, at] -= np.outer(jacobian[:, c], X[i])
    return steps.ravel(), L.reshape(n_items * S, -1)


def _person_variance(rows: CrossedRows) -> float:
    t = rows.block(rows.person)
    if t is None or _INTERCEPT not in rows.design.blocks[t].names:
        return 0.0
    a = rows.design.blocks[t].names.index(_INTERCEPT)
    return float(rows.fit.random_covariance[t][a, a])


def persons_of_rows(rows: CrossedRows) -> PersonParameters:
    """Persons: their own random effect, groups they belong to, and person predictors.

    Raises
    ------
    InferenceError : a model without random persons.
    """
    t = rows.block(rows.person)
    if t is None:
        raise InferenceError(
            "Person estimates need a random effect of persons.",
            f"no term (1 | {rows.person})",
            'choose a model with random persons, such as model="rasch"',
        )
    n = len(rows.persons)
    codes = rows.person_codes
    first = first_rows(codes, n)
    block = rows.design.blocks[t]
    a = block.names.index(_INTERCEPT)
    level = block.codes[first]
    X = rows.design.parts[0].X
    of_person = is_constant_within(X, codes, n) & ~is_constant_within(
        X, rows.item_codes, len(rows.items)
    )
    predicted = (X[first] * of_person) @ rows.fit.beta
    group = np.zeros(n)
    for other, one in enumerate(rows.design.blocks):
        inside = is_constant_within(one.codes[:, None].astype(np.float64), codes, n)[0]
        if other != t and inside and _INTERCEPT in one.names:
            group += rows.effects(other)[one.codes[first], one.names.index(_INTERCEPT)]
    own = rows.effects(t)[level, a]
    return PersonParameters(
        persons=rows.persons,
        n=np.bincount(codes, minlength=n).astype(np.float64),
        score=np.bincount(codes, weights=rows.score, minlength=n).astype(np.float64),
        estimate=own + predicted + group,
        std_error=np.sqrt(np.maximum(rows.covariances(t)[level, a, a], 0.0)),
        predicted=predicted,
        group_effect=group,
        variance=_person_variance(rows),
        method="mode",
    )


def predictors_of_rows(rows: CrossedRows) -> tuple[Array, Array]:
    """Predictor of the mean part (n,) with all estimated effects, and its posterior SD from the
    effects of the person."""
    design, fit = rows.design, rows.fit
    eta = design.parts[0].X @ fit.beta
    if design.parts[0].offset is not None:
        eta = eta + design.parts[0].offset
    variance = np.zeros(design.n)
    for t, block in enumerate(design.blocks):
        eta = eta + np.einsum("nq,nq->n", block.columns, rows.effects(t)[block.codes])
        if block.group == rows.person:
            C = rows.covariances(t)[block.codes]
            variance = np.einsum("na,nab,nb->n", block.columns, C, block.columns)
    return eta, np.sqrt(np.maximum(variance, 0.0))
