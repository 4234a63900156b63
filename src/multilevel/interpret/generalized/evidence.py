"""What every answer about a generalized fit is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.generalized_replay import PartRows, analysed_rows
from multilevel.design.records import Response
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.families.make import FamilyRows, make_rows
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.model.families.records import Family

Array = NDArray[np.float64]
#: Kinds of response that can be zero although others are not.
WITH_ZEROS = ("count", "nonnegative", "unit_interval")


@dataclass(frozen=True)
class GeneralizedEvidence:
    """A fit, its problem, and the objective set at the estimates.

    Attributes
    ----------
    prepared, fit : the frozen problem and its fit.
    given : the objective set at ``fit.psi``; None makes it when it is first needed.
    """

    prepared: GeneralizedPrepared
    fit: GeneralizedFit
    given: GeneralizedObjective | None = None

    @cached_property
    def objective(self) -> GeneralizedObjective:
        """The objective, set at ``fit.psi``."""
        if self.given is not None:
            return self.given
        made = make_objective(self.prepared.problem, self.fit.approximation.points or None)
        made.set_modes(self.fit.modes)
        made.value(self.fit.psi)
        return made

    @property
    def design(self) -> GeneralizedDesign:
        """The arrays with labels."""
        return self.prepared.design

    @property
    def family(self) -> Family:
        """The outcome family."""
        return self.prepared.design.family

    @property
    def random(self) -> tuple[int, ...]:
        """Parts that carry random effects."""
        return self.prepared.problem.random_parts

    @cached_property
    def rows(self) -> PartRows:
        """The analysed rows."""
        return analysed_rows(self.prepared.design)

    @cached_property
    def outcome(self) -> FamilyRows:
        """The response distribution of the analysed rows, weights included."""
        return cast(FamilyRows, self.prepared.problem.row_likelihood())

    @cached_property
    def effects(self) -> tuple[Array, ...]:
        """Per block (J, q) conditional modes of the random effects ``b = Lambda u``."""
        pairs = zip(self.fit.modes, self.fit.relative_factors, strict=True)
        return tuple(np.asarray(u @ L.T) for u, L in pairs)

    @cached_property
    def effect_covariances(self) -> tuple[Array, ...]:
        """Per block (J, q, q) covariance of the random effects given the data."""
        return tuple(
            np.asarray(L @ self.objective.mode_covariance(t) @ L.T)
            for t, L in enumerate(self.fit.relative_factors)
        )

    @property
    def categories(self) -> tuple[str, ...]:
        """Labels of the categories of a response of categories, else empty."""
        is_category = self.family.response in ("ordered", "nominal")
        return self.design.response.categories if is_category else ()


def any_rows(evidence: GeneralizedEvidence, m: int, *, zero: bool = False) -> FamilyRows:
    """The response distribution of m rows of weight 1 (one trial).

    ``zero``: the rows' own response is 0, so that ``cumulative`` gives the probability of zeros.
    """
    response = evidence.design.response.take(np.zeros(m, dtype=np.intp))
    y = np.zeros(m) if zero else response.y
    trials = None if response.trials is None else np.ones(m)
    if trials is not None:
        y = np.zeros(m)
    plain = Response(y, trials, response.upper, response.categories, response.sentence)
    return make_rows(evidence.family, plain, None, ())


def check_zero(evidence: GeneralizedEvidence) -> None:
    """Refuse probabilities of zero where responses cannot be zero."""
    family = evidence.family
    if family.response not in WITH_ZEROS or family.option("truncated") == "yes":
        raise InferenceError(
            "A probability of zero belongs to counts and other responses with zeros.",
            f"family {family.label}",
            'write scale="response"',
        )


def fixed_predictors(rows: PartRows, fit: GeneralizedFit, psi: Array | None = None) -> Array:
    """``X_d beta_d + offset_d`` (D, m); ``psi`` (P,) in place of the estimates."""
    values = fit.psi if psi is None else psi
    out = np.empty((len(rows.X), rows.n))
    for d, (X, offset, s) in enumerate(zip(rows.X, rows.offsets, fit.fixed_slices, strict=True)):
        out[d] = X @ values[s]
        if offset is not None:
            out[d] += offset
    return out


def add_effects(
    eta: Array, rows: PartRows, evidence: GeneralizedEvidence, effects: tuple[Array, ...]
) -> Array:
    """``eta`` (D, m) plus the random effects of each row's own levels; unknown levels get none."""
    out = eta.copy()
    parts = evidence.design.block_parts
    for t, (z, part, b) in enumerate(zip(rows.columns, parts, effects, strict=True)):
        own = rows.level_values(t, b)
        for a, d in enumerate(part):
            out[d] += z[:, a] * own[:, a]
    return out


def predictor_covariance(
    rows: PartRows, evidence: GeneralizedEvidence, matrices: tuple[Array, ...] | None = None
) -> Array:
    """Covariance (m, R, R) of each row's random parts over the random effects of new levels.

    ``matrices``: per block (q, q) in place of ``G`` (derivatives of it, for example).
    """
    random = evidence.random
    found = evidence.fit.random_covariance if matrices is None else matrices
    out = np.zeros((rows.n, len(random), len(random)))
    for z, parts, G in zip(rows.spread, evidence.design.block_parts, found, strict=True):
        out += block_covariance(z, parts, random, G)
    return out


def block_covariance(z: Array, parts: tuple[int, ...], random: tuple[int, ...], G: Array) -> Array:
    """One block's share of ``predictor_covariance``; ``G`` (q, q), or (m, q, q) by row."""
    out = np.zeros((len(z), len(random), len(random)))
    place = [random.index(d) for d in parts]
    for a, r in enumerate(place):
        for c, s in enumerate(place):
            out[:, r, s] += z[:, a] * G[..., a, c] * z[:, c]
    return out


def theta_derivatives(evidence: GeneralizedEvidence) -> list[tuple[int, int, Array]]:
    """``(index in psi, block, dG/dtheta)`` of every covariance parameter.

    ``dG = E L' + L E'`` with E the derivative of the factor L.
    """
    out = []
    problem = evidence.prepared.problem
    for t, (block, s) in enumerate(zip(problem.blocks, problem.theta_slices, strict=True)):
        L = evidence.fit.relative_factors[t]
        for k, dG in enumerate(block.structure.covariance_slopes(evidence.fit.psi[s], L)):
            out.append((s.start + k, t, dG))
    return out
