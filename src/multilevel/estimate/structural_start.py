"""Start values of structural models: moments of the data, then regressions of these moments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural import StructuralGroup
from multilevel.model.structural.records import Level, Parameter, StructuralModel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LevelMoments:
    """Mean (k,) and covariance (k, k) of the observed variables ``names`` of one level."""

    names: tuple[str, ...]
    mean: Array
    cov: Array


def pairwise_covariance(values: Array) -> Array:
    """Covariances from the pairs that are there, with its eigenvalues raised to be positive."""
    known = ~np.isnan(values)
    n = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, values - np.nansum(values, axis=0) / n, 0.0)
    pairs = np.maximum(known.T.astype(float) @ known, 1.0)
    return np.asarray(centred.T @ centred / pairs)


def positive_covariance(cov: Array, scale: Array, floor: float) -> Array:
    """Nearest matrix whose eigenvalues, in units of ``scale``, are at least ``floor``."""
    if not cov.size:
        return cov
    unit = np.sqrt(np.maximum(scale, 1e-300))
    values, vectors = np.linalg.eigh(cov / np.outer(unit, unit))
    raised = (vectors * np.maximum(values, floor)) @ vectors.T
    return np.asarray(raised * np.outer(unit, unit))


def data_moments(model: StructuralModel, group: StructuralGroup) -> dict[Level, LevelMoments]:
    """Rough within and between moments of one group, missing values pair by pair.

    Within: deviations from cluster means. Between: covariance of cluster means, less the share of
    the within covariance (the Anova estimator of random-effects models).
    """
    b, J = len(model.both), len(group.z)
    y, codes = group.y, group.codes
    known = ~np.isnan(y)
    n = np.stack([np.bincount(codes[k], minlength=J) for k in known.T], axis=1) if b else None
    split = y.copy()
    means = np.full((J, b), np.nan)
    for k in range(b):
        if n is not None:
            total = np.bincount(codes[known[:, k]], y[known[:, k], k], minlength=J)
            np.divide(total, n[:, k], out=means[:, k], where=n[:, k] > 0)
            split[:, k] -= means[codes, k]
    n_rows = float(len(y))
    factor = np.ones(y.shape[1])
    factor[:b] = math.sqrt(n_rows / max(n_rows - J, 1.0))
    total_var = np.nanvar(y, axis=0) if y.shape[1] else np.zeros(0)
    within = positive_covariance(pairwise_covariance(split * factor), total_var, 0.02)
    upper = np.column_stack([means, group.z])
    between = pairwise_covariance(upper)
    size = n_rows / max(J, 1)
    between[:b, :b] -= within[:b, :b] / size
    scale = np.r_[total_var[:b], np.diag(between)[b:]]
    between = positive_covariance(between, scale, 0.02)
    grand = np.r_[np.zeros(b), np.nanmean(y[:, b:], axis=0)] if y.shape[1] > b else np.zeros(b)
    top = np.nanmean(upper, axis=0) if upper.shape[1] else np.zeros(0)
    return {
        "within": LevelMoments(model.observed("within"), grand, within),
        "between": LevelMoments(model.observed("between"), top, between),
    }


def start_values(
    model: StructuralModel, moments: list[dict[Level, LevelMoments]], *, is_plain: bool = False
) -> Array:
    """(q,) start values.

    Regressions among observed variables start at those of ``moments``, loadings at ratios of
    standard deviations, variances of latent variables at half of their marker's. The user's start
    values have the last word. ``is_plain`` starts all relations at zero.
    """
    total, count = np.zeros(model.n_free), np.zeros(model.n_free)
    for g, own in enumerate(moments):
        for level in model.levels:
            block = _BlockStart(model, level, g, own[level], is_plain)
            slopes = {} if level == "within" else _slope_starts(model, g, own, is_plain)
            for p in model.block(level, g):
                if p.is_free:
                    found = slopes.get((p.lhs, p.op, p.rhs), math.nan)
                    found = block.of(p) if math.isnan(found) else found
                    total[p.free] += p.start if not math.isnan(p.start) else found
                    count[p.free] += 1.0
    return np.asarray(total / np.maximum(count, 1.0))


def _slope_starts(
    model: StructuralModel, g: int, own: dict[Level, LevelMoments], is_plain: bool
) -> dict[tuple[str, str, str], float]:
    """Starts of random slopes: pooled within slope, a small variance; intercepts to match."""
    if not model.random_slopes:
        return {}
    within = own["within"]
    block = _BlockStart(model, "within", g, within, is_plain)
    out: dict[tuple[str, str, str], float] = {}
    for s in model.random_slopes:
        x, y = within.names.index(s.predictor), within.names.index(s.outcome)
        slope = block.slope(s.outcome, s.predictor)
        ratio = float(within.cov[y, y] / within.cov[x, x])
        out[s.name, "~1", ""] = slope
        out[s.name, "~~", s.name] = (0.5 if is_plain else 0.1) * ratio
        if s.outcome in model.both:
            # the mean of a split variable is at the highest of its levels, and zero below
            top = next(k for k in reversed(model.levels) if s.outcome in own[k].names)
            upper = _BlockStart(model, top, g, own[top], is_plain)
            mean = sum(
                float(m.mean[m.names.index(s.predictor)])
                for m in own.values()
                if s.predictor in m.names
            )
            key = (s.outcome, "~1", "")
            start = out.get(key, upper.mean(s.outcome))
            out[key] = start - slope * mean
    return out


class _BlockStart:
    """Start values of one level of one group."""

    def __init__(
        self,
        model: StructuralModel,
        level: Level,
        group: int,
        moments: LevelMoments,
        is_plain: bool,
    ) -> None:
        self._rows, self._m, self._plain = list(model.block(level, group)), moments, is_plain
        if level == "within":
            self._rows += [
                Parameter(level, group, s.outcome, "~", s.predictor) for s in model.random_slopes
            ]
        self._place = {name: i for i, name in enumerate(moments.names)}
        self._latent = set(model.latent(level))
        self._indicators = {r.rhs for r in self._rows if r.op == "=~"}
        self._slopes: dict[tuple[str, str], float] = {}
        self._leftover: dict[str, float] = {}
        self._predictors: dict[str, list[str]] = {}
        if not is_plain:
            self._regress()

    def _regress(self) -> None:
        outcomes = dict.fromkeys(r.lhs for r in self._rows if r.op == "~")
        for y in outcomes:
            xs = [r.rhs for r in self._rows if r.op == "~" and r.lhs == y]
            if y not in self._place or any(x not in self._place for x in xs):
                continue
            at, yi = [self._place[x] for x in xs], self._place[y]
            cov = self._m.cov
            slope = np.linalg.lstsq(cov[np.ix_(at, at)], cov[at, yi], rcond=1e-8)[0]
            self._predictors[y] = xs
            self._leftover[y] = float(cov[yi, yi] - slope @ cov[at, yi])
            for x, value in zip(xs, slope, strict=True):
                self._slopes[y, x] = float(value)

    def _var(self, name: str) -> float:
        i = self._place[name]
        return float(self._m.cov[i, i])

    def _marker(self, latent: str) -> str | None:
        mine = [r for r in self._rows if r.op == "=~" and r.lhs == latent]
        fixed = [r for r in mine if not r.is_free and r.value != 0.0]
        found = (fixed or mine)[:1]
        return found[0].rhs if found and found[0].rhs in self._place else None

    def _latent_variance(self, latent: str) -> float:
        row = next(r for r in self._rows if r.is_variance and r.lhs == latent)
        if not row.is_free:
            return row.value
        marker = self._marker(latent)
        return 0.5 * self._var(marker) if marker else 0.5

    def of(self, p: Parameter) -> float:
        """Start value of one free parameter."""
        if p.op == "=~":
            return self._loading(p)
        if p.op == "~":
            return self.slope(p.lhs, p.rhs)
        if p.op == "~1":
            return self.mean(p.lhs)
        if p.is_variance:
            if p.lhs in self._latent:
                return self._latent_variance(p.lhs)
            share = 0.5 if p.lhs in self._indicators else 1.0
            found = self._leftover.get(p.lhs, self._var(p.lhs))
            return max(found, 0.05 * self._var(p.lhs)) * share
        return self._covariance(p)

    def _covariance(self, p: Parameter) -> float:
        is_moment = {p.lhs, p.rhs} <= set(self._place) and not self._plain
        touched = {r.lhs for r in self._rows if r.op == "~"} | self._indicators
        if not is_moment or touched & {p.lhs, p.rhs}:
            return 0.0
        return float(self._m.cov[self._place[p.lhs], self._place[p.rhs]])

    def _loading(self, p: Parameter) -> float:
        marker = self._marker(p.lhs)
        if p.rhs not in self._place or marker is None:
            return 1.0
        sign = 1.0 if self._m.cov[self._place[p.rhs], self._place[marker]] >= 0.0 else -1.0
        size = math.sqrt(self._var(p.rhs) / self._var(marker))
        latent = self._latent_variance(p.lhs)
        if p.rhs == marker or not any(r.rhs == marker and not r.is_free for r in self._rows):
            size = math.sqrt(0.5 * self._var(p.rhs) / latent)  # the latent variance is the unit
        return sign * size

    def slope(self, outcome: str, predictor: str) -> float:
        """Slope of the regression among the moments; 0 where there is none."""
        return self._slopes.get((outcome, predictor), 0.0)

    def mean(self, name: str) -> float:
        """Intercept of the regression among the moments."""
        if name not in self._place:
            return 0.0
        mean = float(self._m.mean[self._place[name]])
        for x in self._predictors.get(name, ()):
            mean -= self._slopes[name, x] * float(self._m.mean[self._place[x]])
        return mean
