r"""Johnson-Neyman regions: where along a moderator a slope differs from zero.

The slope is ``a0 + a1 w`` with variance ``v00 + 2 w v01 + w^2 v11``; it is significant where
``(a0 + a1 w)^2 > c^2 (v00 + 2 w v01 + w^2 v11)``. With the same degrees of freedom everywhere the
bounds are roots of a quadratic; where they depend on w, the bounds are bracketed on a fine grid and
bisected. Sources: Johnson & Neyman 1936; Bauer & Curran 2005 (Multivariate Behavioral Research
40:373). The false-discovery control is that of Esarey & Sumner 2017 (Comparative Political Studies
51:1144): Benjamini-Hochberg over the observed values of the moderator fixes the critical value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.grid import Grid
from multilevel.errors import InferenceError
from multilevel.infer.degrees_of_freedom import DfApproach, method_sentence
from multilevel.infer.distributions import normal_tail, t_tail
from multilevel.infer.means_tests import critical_values
from multilevel.interpret.intraclass import check_level
from multilevel.interpret.moderators import points, slope_rows
from multilevel.interpret.variance_share import Evidence

Array = NDArray[np.float64]
GRID = 2001
REACH = 5.0
BISECTIONS = 100


@dataclass(frozen=True)
class Region:
    """A stretch of the moderator.

    Attributes
    ----------
    at : values of the other moderators, in words; empty if there are none.
    low, high : ends of the stretch; infinite where it has none, the end of the search where
        bounds had to be searched for.
    low_inside, high_inside : whether the ends lie in the observed range.
    is_significant : whether the slope differs from zero there.
    sign : ``1`` or ``-1``: sign of the slope; 0 where it is not significant.
    """

    at: str
    low: float
    high: float
    low_inside: bool
    high_inside: bool
    is_significant: bool
    sign: int


@dataclass(frozen=True)
class JohnsonNeyman:
    """Regions of significance.

    Attributes
    ----------
    focal, moderator : whose slope, along what.
    regions : stretches from low to high, per value of the other moderators.
    observed : smallest and largest value of the moderator in the analysed rows (NaN if unknown).
    alpha : two-sided level of a single test; smaller than asked under false-discovery control.
    sentence : in words.
    """

    focal: str
    moderator: str
    regions: tuple[Region, ...]
    observed: tuple[float, float]
    alpha: float
    sentence: str


@dataclass(frozen=True)
class _Line:
    """A slope along the moderator: rows ``base + w step`` and the approach that tests them."""

    base: Array
    step: Array
    beta: Array
    approach: DfApproach

    def rows(self, w: Array) -> Array:
        return self.base + np.multiply.outer(w, self.step)

    def t(self, w: Array) -> tuple[Array, Array]:
        """Statistic and degrees of freedom at each w."""
        L = self.rows(w)
        variance = np.einsum("kp,pq,kq->k", L, self.approach.vcov, L)
        return L @ self.beta / np.sqrt(variance), np.asarray(self.approach.row_df(L))

    def excess(self, w: Array, conf_level: float) -> Array:
        """Positive where the slope is significant."""
        t, df = self.t(w)
        return np.asarray(np.abs(t) - critical_values(df, conf_level))


def johnson_neyman(
    evidence: Evidence,
    focal: str,
    moderator: str,
    at: Mapping[str, Any] | None = None,
    df: str | None = None,
    conf_level: float = 0.95,
    false_discovery: bool = False,
) -> JohnsonNeyman:
    """Regions of a numeric moderator where the slope of ``focal`` differs from zero.

    Parameters
    ----------
    evidence : the fit.
    focal, moderator : numeric predictors that share a term.
    at : values of further moderators (three-way interactions), as in ``simple_slopes``.
    df : method of the degrees of freedom; None takes the default. Bounds where they vary with the
        moderator are searched up to five observed ranges beyond the data.
    conf_level : 0.95 for tests at the 5% level.
    false_discovery : control the false discovery rate over the observed moderator values.

    Raises
    ------
    InferenceError : predictors that do not interact, a slope that is not linear in the moderator.
    """
    check_level(conf_level)
    grid = Grid(evidence.prepared.design)
    focal, moderator = grid.find(focal), grid.find(moderator)
    _check_pair(grid, focal, moderator)
    asked = {name: v for name, v in (at or {}).items() if grid.find(name) != moderator}
    where = points(grid, focal, {**asked, moderator: [0.0]})
    base, step = _line(grid, focal, moderator, where.values)
    approach = evidence.approach(df)
    observed = grid.variables[moderator].observed
    span = (float("nan"), float("nan"))
    if observed is not None:
        span = float(observed.min()), float(observed.max())
    others = [
        ", ".join(piece for piece in label.split(", ") if piece != f"{moderator} = 0")
        for label in where.labels
    ]
    alphas, regions = [], []
    for k, label in enumerate(others):
        line = _Line(base[k], step[k], evidence.fit.beta, approach)
        level = conf_level
        if false_discovery:
            level = 1.0 - _discovery_alpha(line, observed, moderator, 1.0 - conf_level)
        alphas.append(1.0 - level)
        regions += _regions(line, label, level, span)
    sentence = " ".join(
        [
            *(_words(r, focal, moderator, 1.0 - conf_level) for r in regions),
            _range_words(moderator, span),
            *_search_words(regions, moderator),
            method_sentence(approach, evidence.fit.method, df is None),
        ]
    )
    return JohnsonNeyman(focal, moderator, tuple(regions), span, min(alphas), sentence)


def _check_pair(grid: Grid, focal: str, moderator: str) -> None:
    if grid.variables[moderator].is_category:
        raise InferenceError(
            "Johnson-Neyman regions need a numeric moderator.",
            f"{moderator} has categories",
            f"use slopes({focal!r})",
        )
    if moderator not in grid.companions(focal):
        shared = ", ".join(grid.companions(focal)) or "nothing"
        raise InferenceError(
            "The slope must depend on the moderator: the two share a term of the model.",
            f"{focal} interacts with {shared}",
            f"add {focal}:{moderator} to the formula, or name another moderator",
        )


def _line(
    grid: Grid, focal: str, moderator: str, values: Mapping[str, list[Any]]
) -> tuple[Array, Array]:
    """Rows (k, p) at moderator 0 and their change per unit; refuses curved moderation."""
    k = len(values[moderator])
    zero, one, two = (
        slope_rows(grid, focal, {**values, moderator: [w] * k}, None).L for w in (0.0, 1.0, 2.0)
    )
    step = one - zero
    if np.abs(two - one - step).max() > 1e-8 * np.abs(step).max():
        raise InferenceError(
            "Johnson-Neyman regions need a slope that is linear in the moderator.",
            f"the slope of {focal} bends along {moderator}",
            f'use slopes({focal!r}, at={{"{moderator}": [...]}})',
        )
    return zero, step


def _discovery_alpha(line: _Line, observed: Array | None, name: str, alpha: float) -> float:
    """Level of a single test under Benjamini-Hochberg over the distinct observed values."""
    if observed is None:
        raise InferenceError(
            "False-discovery control runs over the observed values of the moderator.",
            f"{name} enters the model only inside a function or a product",
            "add it to the formula, or leave out false_discovery",
        )
    t, df = line.t(np.unique(observed))
    finite = np.isfinite(df)
    p = 2.0 * np.where(finite, t_tail(np.abs(t), np.where(finite, df, 1.0)), normal_tail(np.abs(t)))
    m = len(p)
    passed = np.flatnonzero(np.sort(p) <= alpha * np.arange(1, m + 1) / m)
    # Where nothing passes, the strictest step of the procedure is what a test would have to meet.
    rank = int(passed[-1]) + 1 if len(passed) else 1
    return alpha * rank / m


def _bounds(line: _Line, conf_level: float, span: tuple[float, float]) -> tuple[list[float], bool]:
    """Sorted bounds, and whether they were found on the whole line."""
    reach = span if np.isfinite(span[0]) else (-1.0, 1.0)
    width = reach[1] - reach[0]
    w = np.linspace(reach[0] - REACH * width, reach[1] + REACH * width, GRID)
    _, df = line.t(w[:: GRID // 20])
    if np.all(df == df[0]):
        return _roots(line, float(critical_values(df[:1], conf_level)[0])), True
    excess = line.excess(w, conf_level)
    found = []
    for i in np.flatnonzero(np.sign(excess[1:]) != np.sign(excess[:-1])):
        low, high = float(w[i]), float(w[i + 1])
        rising = excess[i + 1] > 0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2.0
            if (line.excess(np.array([middle]), conf_level)[0] > 0) == rising:
                high = middle
            else:
                low = middle
        found.append((low + high) / 2.0)
    return found, False


def _roots(line: _Line, critical: float) -> list[float]:
    """Real roots of the quadratic, sorted."""
    V, c2 = line.approach.vcov, critical**2
    a0, a1 = float(line.base @ line.beta), float(line.step @ line.beta)
    A = a1**2 - c2 * float(line.step @ V @ line.step)
    B = 2.0 * (a0 * a1 - c2 * float(line.base @ V @ line.step))
    C = a0**2 - c2 * float(line.base @ V @ line.base)
    roots = np.roots([A, B, C])
    return sorted(float(r.real) for r in roots if abs(r.imag) <= 1e-12 * max(abs(r.real), 1.0))


def _regions(line: _Line, label: str, conf_level: float, span: tuple[float, float]) -> list[Region]:
    bounds, whole = _bounds(line, conf_level, span)
    width = span[1] - span[0] if np.isfinite(span[0]) else 2.0
    outer = (-np.inf, np.inf)
    if not whole:
        outer = span[0] - REACH * width, span[1] + REACH * width
    ends = [outer[0], *bounds, outer[1]]
    out = []
    for low, high in pairwise(ends):
        if np.isfinite(low) and np.isfinite(high):
            inside = (low + high) / 2.0
        elif np.isfinite(low):
            inside = low + width
        else:
            inside = high - width if np.isfinite(high) else 0.0
        point = np.array([inside])
        significant = bool(line.excess(point, conf_level)[0] > 0)
        sign = int(np.sign(line.t(point)[0][0])) if significant else 0
        held = [bool(span[0] <= end <= span[1]) for end in (low, high)]
        out.append(Region(label, float(low), float(high), held[0], held[1], significant, sign))
    return out


def _words(region: Region, focal: str, moderator: str, alpha: float) -> str:
    low, high = f"{region.low:.4g}", f"{region.high:.4g}"
    if np.isinf(region.low) and np.isinf(region.high):
        place = f"at every value of {moderator}"
    elif np.isinf(region.low):
        place = f"where {moderator} is below {high}"
    elif np.isinf(region.high):
        place = f"where {moderator} is above {low}"
    else:
        place = f"where {moderator} is between {low} and {high}"
    at = f"At {region.at}, the" if region.at else "The"
    if not region.is_significant:
        return f"{at} slope of {focal} does not differ from zero (at {alpha:.3g}) {place}."
    direction = "positive" if region.sign > 0 else "negative"
    return f"{at} slope of {focal} is {direction} and differs from zero {place}."


def _search_words(regions: list[Region], moderator: str) -> list[str]:
    """Say how far bounds were searched for, where they were."""
    if not regions or np.isinf(regions[0].low):
        return []
    low, high = min(r.low for r in regions), max(r.high for r in regions)
    return [
        f"The degrees of freedom depend on {moderator}; bounds were searched for from {low:.4g} to "
        f"{high:.4g}."
    ]


def _range_words(moderator: str, span: tuple[float, float]) -> str:
    if not np.isfinite(span[0]):
        return f"The observed range of {moderator} is not known to the model."
    return f"Observed values of {moderator} run from {span[0]:.4g} to {span[1]:.4g}."
