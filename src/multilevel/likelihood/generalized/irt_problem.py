"""Responses of persons to items, laid out for matrix products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.irt_categories import ItemKind, ItemLink

Array = NDArray[np.float64]
MISSING = -1


@dataclass(frozen=True)
class PersonGroups:
    """Which patterns the persons of each group have.

    Attributes
    ----------
    of_person : (n_persons,) the group of each person, 0..n_groups - 1.
    n_groups : number of groups.
    """

    of_person: NDArray[np.intp]
    n_groups: int


@dataclass(frozen=True)
class ItemProblem:
    """Distinct response patterns, and how items depend on parameters; T = sum of (C_i - 1).

    Slopes of items are ``a = slopes @ alpha`` and their intercepts ``d = easiness @ delta``; the
    person effect is ``theta ~ N(x' gamma, 1)``. Parameters are ``psi = (alpha, delta, gamma)``.
    With ``groups`` of persons it is ``theta ~ N(x' gamma + tau u_g, 1)``, ``u_g ~ N(0, 1)``, and
    tau, of either sign, is the last parameter.

    Attributes
    ----------
    kind, link : see ``category_tables``.
    n_categories : per item C_i.
    steps : (N, T) 1 where a response is category s of the item that owns the column, s = 1..C-1.
    observed : (N, I) 1 where there is a response; None if all are there.
    counts : (N,) persons with this pattern.
    x : (N, q) person predictors of the patterns.
    pattern_of : (n_persons,) the pattern of each person.
    slopes : (I, n_alpha).
    easiness : (T, n_delta).
    groups : groups of persons; None for persons that are independent.
    """

    kind: ItemKind
    link: ItemLink
    n_categories: tuple[int, ...]
    steps: Array
    observed: Array | None
    counts: Array
    x: Array
    pattern_of: NDArray[np.intp]
    slopes: Array
    easiness: Array
    groups: PersonGroups | None = None

    @property
    def n_items(self) -> int:
        """Number of items I."""
        return len(self.n_categories)

    @property
    def n_steps(self) -> int:
        """Number of step columns T."""
        return int(self.steps.shape[1])

    @property
    def n_persons(self) -> int:
        """Number of persons."""
        return len(self.pattern_of)

    @property
    def item_of(self) -> NDArray[np.intp]:
        """(T,) the item that owns each step column."""
        return np.repeat(np.arange(self.n_items), np.asarray(self.n_categories) - 1)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Where alpha, delta and gamma stand in psi."""
        a, d = self.slopes.shape[1], self.easiness.shape[1]
        return slice(0, a), slice(a, a + d), slice(a + d, a + d + self.x.shape[1])

    @property
    def n_parameters(self) -> int:
        """Length of psi."""
        own = self.slopes.shape[1] + self.easiness.shape[1] + self.x.shape[1]
        return int(own) + (self.groups is not None)

    @property
    def n_responses(self) -> float:
        """Responses given."""
        if self.observed is None:
            return float(self.counts.sum() * self.n_items)
        return float(self.counts @ self.observed.sum(axis=1))


def make_problem(
    codes: NDArray[np.int64],
    n_categories: tuple[int, ...],
    *,
    kind: ItemKind,
    link: ItemLink = "logit",
    x: Array | None = None,
    slopes: Array | None = None,
    easiness: Array | None = None,
    groups: PersonGroups | None = None,
) -> ItemProblem:
    """Collect equal patterns of responses (n_persons, I).

    Parameters
    ----------
    codes : 0..C_i - 1, ``MISSING`` (-1) where there is no response.
    x : (n_persons, q) person predictors; None for none.
    slopes, easiness : see ``ItemProblem``; None gives each item (each step) its own parameter.
    groups : groups of persons, or None.

    Raises
    ------
    LikelihoodError : a partial credit model with a link other than the logit (two categories are
        the same in both kinds, so "graded" is taken for them).
    """
    n, n_items = codes.shape
    x = np.zeros((n, 0)) if x is None else np.asarray(x, dtype=np.float64)
    if kind == "partial_credit" and link != "logit":
        raise LikelihoodError(
            "Partial credit needs the logit link.", f"link {link!r}", "use the graded model"
        )
    if max(n_categories) == 2 and link == "logit":
        kind = "partial_credit"  # the same model, and its derivatives are cheaper
    first, counts, pattern_of = _distinct(codes, x)
    patterns = codes[first]
    columns = [patterns[:, i] == c for i, n_cat in enumerate(n_categories) for c in range(1, n_cat)]
    steps = np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.float64)
    seen = patterns != MISSING
    n_steps = steps.shape[1]
    return ItemProblem(
        kind,
        link,
        n_categories,
        steps,
        None if bool(seen.all()) else np.ascontiguousarray(seen, dtype=np.float64),
        counts.astype(np.float64),
        np.ascontiguousarray(x[first]),
        pattern_of,
        np.eye(n_items) if slopes is None else slopes,
        np.eye(n_steps) if easiness is None else easiness,
        groups,
    )


def _distinct(
    codes: NDArray[np.int64], x: Array
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """First row, number and place of each distinct row of responses and predictors."""
    small = np.ascontiguousarray(codes, dtype=np.int16)
    joined = np.ascontiguousarray(
        np.concatenate([small.view(np.uint8), np.ascontiguousarray(x).view(np.uint8)], axis=1)
    )
    rows = joined.view(np.dtype((np.void, joined.shape[1]))).ravel()
    _, first, inverse, counts = np.unique(
        rows, return_index=True, return_inverse=True, return_counts=True
    )
    return first, counts, inverse.reshape(-1)
