"""What every answer about an item response model is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from multilevel.design.irt_variants import ItemVariants
from multilevel.errors import InferenceError
from multilevel.estimate.irt import ItemFit
from multilevel.estimate.records import Certificate
from multilevel.interpret.irt.by_rows import (
    CrossedRows,
    first_rows,
    is_constant_within,
    parameters_of_rows,
    persons_of_rows,
    predictors_of_rows,
)
from multilevel.interpret.irt.fit import ResponseMoments, response_moments
from multilevel.interpret.irt.parameters import (
    ItemParameters,
    PersonParameters,
    parameters_of_items,
    persons_of_items,
)
from multilevel.tables.responses import ResponseMatrix

Array = NDArray[np.float64]
#: Variance of the error of one response on the link scale.
LATENT_VARIANCE = {"logit": np.pi**2 / 3.0, "probit": 1.0}


@dataclass(frozen=True)
class Effect:
    """One fixed effect: a feature, a person predictor, an interaction."""

    term: str
    estimate: float
    std_error: float


@dataclass(frozen=True)
class Pile:
    """One variance on the link scale.

    Attributes
    ----------
    group, component : grouping factor and random effect.
    estimate : the variance (NaN for the fixed one of a response: see ``note``).
    share : share of the latent variance (intercepts only; NaN for slopes).
    """

    group: str
    component: str
    estimate: float
    share: float


@dataclass(frozen=True)
class SlopeSource:
    """A model with slopes: its fit, its responses, names of person predictors; how items differ
    between persons (DIF), and the column of groups of persons."""

    fit: ItemFit
    matrix: ResponseMatrix
    predictors: tuple[str, ...]
    variants: ItemVariants | None = None
    group: str = ""

    @property
    def criterion(self) -> float:
        """-2LL."""
        return self.fit.criterion

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        return self.fit.n_parameters

    @property
    def n_responses(self) -> int:
        """Responses."""
        return int(self.fit.problem.n_responses)

    @property
    def certificate(self) -> Certificate:
        """Evidence of the optimum."""
        return self.fit.certificate

    @property
    def approximation(self) -> str:
        """How the integral was computed."""
        return (
            f"Integral over {'person and group effects' if self.group else 'the person effect'} "
            f"at {self.fit.points} equally spaced points{' each' if self.group else ''}; twice "
            f"as many change -2LL by {abs(self.fit.points_error):.0e}."
        )

    def items(self) -> ItemParameters:
        """Items."""
        return parameters_of_items(self.fit, self.matrix, has_variants=self.variants is not None)

    def persons(self) -> PersonParameters:
        """Persons."""
        return persons_of_items(self.fit, self.matrix)

    def effects(self) -> tuple[Effect, ...]:
        """Effects of person predictors on the person effect; differences of items (DIF)."""
        errors = np.sqrt(np.diag(self.fit.vcov))
        _, d, g = self.fit.problem.slices
        names, at = list(self.predictors), list(range(g.start, g.stop))
        if self.variants is not None:
            names += self.variants.names
            at += range(d.stop - len(self.variants.names), d.stop)
        return tuple(
            Effect(name, float(self.fit.psi[k]), float(errors[k]))
            for name, k in zip(names, at, strict=True)
        )

    def piles(self) -> tuple[Pile, ...]:
        """The person variance, which identification fixes at 1; with groups theirs, and the share
        of each in the variance of persons."""
        if not self.group:
            return (Pile("person", "(Intercept), fixed at 1", 1.0, float("nan")),)
        between = self.fit.group_variance
        return (
            Pile(self.group, "(Intercept)", between, between / (1.0 + between)),
            Pile("person", "(Intercept), fixed at 1", 1.0, 1.0 / (1.0 + between)),
        )

    def moments(self) -> tuple[ResponseMoments, NDArray[np.intp], NDArray[np.intp]]:
        """Moments of every response, with the item and the person of each."""
        person, item = np.nonzero(self.matrix.codes >= 0)
        items = self.items()
        a = items.slopes[item]
        place = a * self.fit.mean[person]
        if self.variants is not None:
            _, d, _ = self.fit.problem.slices
            delta = self.fit.psi[d][-len(self.variants.names) :]
            place = place + (self.variants.effects @ delta)[person, item]
        moments = response_moments(
            items, item, self.matrix.codes[person, item].astype(np.float64),
            place, np.abs(a) * self.fit.spread[person],
        )  # fmt: skip
        return moments, item, person


@dataclass(frozen=True)
class RowSource:
    """A model that was fitted by rows."""

    rows: CrossedRows

    @property
    def criterion(self) -> float:
        """-2LL."""
        return self.rows.fit.criterion

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        return self.rows.fit.n_parameters

    @property
    def n_responses(self) -> int:
        """Responses."""
        return self.rows.design.n

    @property
    def certificate(self) -> Certificate:
        """Evidence of the optimum."""
        return self.rows.fit.certificate

    @property
    def approximation(self) -> str:
        """How the integral was computed."""
        found = self.rows.fit.approximation
        if found.method == "none":
            return "No random effects, so no integral."
        said = found.sentence
        if not said.startswith("Laplace"):
            said = said[:1].lower() + said[1:]
        return f"Integral over random effects: {said}"

    @cached_property
    def _parameters(self) -> ItemParameters:
        return parameters_of_rows(self.rows)

    def items(self) -> ItemParameters:
        """Items, computed once."""
        return self._parameters

    def persons(self) -> PersonParameters:
        """Persons."""
        return persons_of_rows(self.rows)

    def effects(self) -> tuple[Effect, ...]:
        """Fixed effects of the mean part, those of single items left out."""
        rows = self.rows
        estimates, errors = rows.fit.coefficients(0)
        names = rows.design.parts[0].names
        prefix = f"{rows.item}["
        return tuple(
            Effect(name, float(b), float(e))
            for name, b, e in zip(names, estimates, errors, strict=True)
            if ":" in name or not name.startswith(prefix)
        )

    def piles(self) -> tuple[Pile, ...]:
        """Variances; shares of persons, items and groups with the variance of one response."""
        rows = self.rows
        latent = LATENT_VARIANCE["probit" if rows.design.family.link == "probit" else "logit"]
        entries = [
            (block.group, name, float(G[a, a]))
            for block, G in zip(rows.design.blocks, rows.fit.random_covariance, strict=True)
            for a, name in enumerate(block.names)
        ]
        has_slopes = any(name != "(Intercept)" for _, name, _ in entries)
        total = latent + sum(value for _, name, value in entries if name == "(Intercept)")
        return tuple(
            Pile(g, c, v, v / total if c == "(Intercept)" and not has_slopes else float("nan"))
            for g, c, v in entries
        )

    def moments(self) -> tuple[ResponseMoments, NDArray[np.int32], NDArray[np.int32]]:
        """Moments of every response, with the item and the person of each."""
        rows, items = self.rows, self.items()
        eta, spread = predictors_of_rows(rows)
        # steps hold the easiness of items already; what is left is the place of the person
        own = _mean_part_easiness(rows, items)
        moments = response_moments(
            items, rows.item_codes, rows.score, eta - own[rows.item_codes], spread
        )
        return moments, rows.item_codes, rows.person_codes


Source = SlopeSource | RowSource


def _mean_part_easiness(rows: CrossedRows, items: ItemParameters) -> Array:
    """(I,) what the mean part (not the thresholds) contributes to the steps of each item."""
    if rows.design.family.name == "binomial":
        return items.steps
    first_steps = np.r_[0, np.cumsum(np.asarray(items.n_categories) - 1)[:-1]]
    part = rows.design.parts[1]
    first = first_rows(rows.item_codes, len(items.items))
    constant = is_constant_within(part.X, rows.item_codes, len(items.items))
    tau = (part.X[first] * constant) @ rows.fit.psi[rows.fit.fixed_slices[1]]
    return np.asarray(items.steps[first_steps] + tau)


def item_variance(source: Source, item: str) -> float:
    """Variance of the random items of a model.

    Raises
    ------
    InferenceError : a model whose items are not random.
    """
    found = [p.estimate for p in source.piles() if p.group == item and "Intercept" in p.component]
    if isinstance(source, SlopeSource) or not found:
        raise InferenceError(
            "The item variance belongs to models with random items.",
            f"no term (1 | {item})",
            'use model="random_items" or model="lltm_error"',
        )
    return found[0]
