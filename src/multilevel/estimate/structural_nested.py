"""Levels above the second: their sums, rough moments of every level, and resampled units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural import StructuralGroup
from multilevel.design.structural_nested import UpperUnits
from multilevel.estimate.structural_start import (
    LevelMoments,
    data_moments,
    pairwise_covariance,
    positive_covariance,
)
from multilevel.likelihood.structural.nested import UpperStatistics, upper_statistics
from multilevel.model.structural.records import Level, StructuralModel

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
_FLOOR = 0.02  # least share of its total variance that a variable starts with at each level


def upper_sums(model: StructuralModel, group: StructuralGroup) -> tuple[UpperStatistics, ...]:
    """The statistics of each level above the second."""
    out = []
    below = model.located("between")
    for high, units in zip(model.higher, group.upper, strict=True):
        lift = np.array([below.index(n) for n in high.parts], dtype=np.intp)
        out.append(upper_statistics(units.codes, lift, units.z))
        below = model.located(high.name)
    return tuple(out)


def nested_moments(model: StructuralModel, group: StructuralGroup) -> dict[Level, LevelMoments]:
    """Rough moments of all levels: those of two levels, then the upper ones split again.

    The covariance of the means of units is that of the level plus a share of those below; shares
    are taken off level by level (the Anova estimator), and matrices made positive definite.
    """
    out = data_moments(model, group)
    names = model.observed("between")
    values = _unit_means(group, len(model.both))
    noise = out["within"].cov[: len(model.both), : len(model.both)] * _inverse_size(group.codes)
    full = np.zeros((len(names), len(names)))
    full[: len(noise), : len(noise)] = noise
    level: Level = "between"
    for high, units in zip(model.higher, group.upper, strict=True):
        means = _means_by_unit(values, units.codes)
        n, K = len(values), len(means)
        spread = (values - means[units.codes]) * np.sqrt(n / max(n - K, 1.0))
        inside = pairwise_covariance(spread)
        scale = np.nanvar(values, axis=0)
        own = positive_covariance(inside - full, scale, _FLOOR)
        split = model.above(level)
        centre = np.nanmean(values, axis=0)
        centre[[k for k, name in enumerate(names) if name in split]] = 0.0
        out[level] = LevelMoments(names, centre, own)
        here = model.observed(high.name)
        parts = [names.index(n) for n in here if n in names]
        full = np.zeros((len(here), len(here)))
        k = len(parts)
        full[:k, :k] = inside[np.ix_(parts, parts)] * _inverse_size(units.codes)
        values = np.column_stack([means[:, parts], units.z])
        names, level = here, high.name
    top = positive_covariance(pairwise_covariance(values) - full, np.nanvar(values, axis=0), _FLOOR)
    out[level] = LevelMoments(names, np.nanmean(values, axis=0), top)
    return out


def _inverse_size(codes: Codes) -> float:
    """Mean of one over the number of units below."""
    return float(np.mean(1.0 / np.maximum(np.bincount(codes), 1)))


def _unit_means(group: StructuralGroup, n_both: int) -> Array:
    """(J, P) means of the split variables by cluster, beside the level-2 variables."""
    return np.column_stack([_means_by_unit(group.y[:, :n_both], group.codes), group.z])


def _means_by_unit(values: Array, codes: Codes) -> Array:
    """Means of what is there, NaN where a unit has nothing."""
    K = int(codes.max()) + 1
    out = np.full((K, values.shape[1]), np.nan)
    for k in range(values.shape[1]):
        known = ~np.isnan(values[:, k])
        n = np.bincount(codes[known], minlength=K)
        total = np.bincount(codes[known], values[known, k], minlength=K)
        np.divide(total, n, out=out[:, k], where=n > 0)
    return out


def draw_top_units(group: StructuralGroup, chosen: NDArray[np.int64]) -> StructuralGroup:
    """The group with the highest units ``chosen``, each with all that is in it.

    One drawn twice counts as two units.
    """
    picks = [np.asarray(chosen, dtype=np.intp)]
    parents: list[Codes] = []
    for units in reversed(group.upper):
        picked, parent = _members(units.codes, picks[0], len(units.z))
        picks.insert(0, picked)
        parents.insert(0, parent)
    rows, codes = _members(group.codes, picks[0], len(group.z))
    upper = tuple(
        UpperUnits(u.name, parent, u.z[pick], np.arange(len(pick)).astype(object))
        for u, parent, pick in zip(group.upper, parents, picks[1:], strict=True)
    )
    return StructuralGroup(
        label=group.label,
        y=group.y[rows],
        codes=codes,
        z=group.z[picks[0]],
        clusters=np.arange(len(picks[0])).astype(object),
        upper=upper,
    )


def _members(codes: Codes, chosen: Codes, n_units: int) -> tuple[Codes, Codes]:
    """What is in the chosen units, and the position of its unit among the chosen."""
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=n_units))
    parts: Sequence[Codes] = np.split(order, ends[:-1])
    picked = np.concatenate([parts[k] for k in chosen]).astype(np.intp)
    position = np.repeat(np.arange(len(chosen)), [len(parts[k]) for k in chosen])
    return picked, position.astype(np.intp)
