r"""Correlation of residuals by their distance in time, and the semivariogram.

For residuals ``r`` scaled to one variance, over the pairs of rows of one unit at distance h:

    correlation(h) = sum r_i r_j / sqrt(sum r_i^2 sum r_j^2),
    semivariance(h) = mean (r_i - r_j)^2 / 2.

Residuals that are independent with variance one have correlation 0, within ``z / sqrt(pairs)``, and
semivariance 1. Residuals of one unit around estimated means and effects are slightly negatively
correlated where none is left.
Source: Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS, sections 5.3.1-5.3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design
from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.advice.columns import variable_of

Array = NDArray[np.float64]
#: Pairs further apart in rank are not formed, nor more lags shown.
MOST_RANKS, MOST_LAGS = 60, 20
#: Lags with fewer pairs say nothing.
FEWEST_PAIRS = 4
#: Values that time has at least, and rows per level on average; columns of more are passed over.
LEAST_TIMES, MOST_TIMES = 3, 200


@dataclass(frozen=True)
class LagCorrelation:
    """Residuals at one distance in time.

    Attributes
    ----------
    lag : the distance, in the units of time (the mean of a bin of distances where they vary).
    n_pairs : pairs of rows.
    correlation, semivariance : of these pairs.
    bound : two-sided limit of the correlation of independent residuals.
    """

    lag: float
    n_pairs: int
    correlation: float
    semivariance: float
    bound: float


@dataclass(frozen=True)
class TimeColumn:
    """A predictor that orders the rows of the levels of a factor.

    Attributes
    ----------
    name, group : the predictor and the factor.
    values : (n,); ``codes`` (n,) levels of the factor.
    """

    name: str
    group: str
    values: Array
    codes: NDArray[np.int32]


def _columns(design: Design) -> dict[str, Array]:
    """Numeric predictors that the model names, with their values (n,)."""
    found = {
        name: block.columns[:, j] for block in design.blocks for j, name in enumerate(block.names)
    }
    found.update({name: design.X[:, j] for j, name in enumerate(design.names)})
    return {name: x for name, x in found.items() if variable_of(name) == name}


def time_columns(design: Design) -> tuple[TimeColumn, ...]:
    """Predictors that look like time: whole steps, no value twice in a level of the finest factor.

    Levels must have three rows on average. A condition that comes once in each level by design
    looks the same; the order of its values then has no meaning.
    """
    if not design.blocks:
        return ()
    block = design.blocks[0]
    if design.n < LEAST_TIMES * block.n_levels:
        return ()
    out = []
    for name, x in _columns(design).items():
        distinct = np.unique(x)
        if not LEAST_TIMES <= len(distinct) <= MOST_TIMES:
            continue
        gaps = np.diff(distinct)
        steps = gaps / gaps.min()
        if np.abs(steps - np.rint(steps)).max() > 1e-6:
            continue
        place = np.searchsorted(distinct, x)
        cells = np.unique(block.codes.astype(np.int64) * len(distinct) + place)
        if len(cells) == design.n:
            out.append(TimeColumn(name, block.group, x, block.codes))
    return tuple(out)


def time_of(design: Design, time: str | None = None, group: str | None = None) -> TimeColumn:
    """The named predictor and factor; what looks like time, and its unit, where not named.

    Raises
    ------
    InferenceError : no such predictor or factor, or nothing that looks like time.
    """
    if time is None:
        found = [one for one in time_columns(design) if group in (None, one.group)]
        if not found:
            raise InferenceError(
                "Correlations over time need a predictor that orders the rows.",
                "no predictor with steps that takes each value once in a level",
                'name it: time="week", group="id"',
            )
        return found[0]
    columns = _columns(design)
    names = [block.group for block in design.blocks]
    chosen = names[0] if group is None and names else group
    if time not in columns or chosen not in names:
        raise InferenceError(
            "time must be a numeric predictor of the model, group one of its factors.",
            f"time={time!r}, group={group!r}; predictors {', '.join(columns) or 'none'}; factors"
            f" {', '.join(names) or 'none'}",
            "name some of these",
        )
    return TimeColumn(time, str(chosen), columns[time], design.blocks[names.index(chosen)].codes)


def lag_correlations(
    residuals: Array,
    codes: NDArray[np.int32],
    time: Array,
    *,
    by_rank: bool = False,
    conf_level: float = 0.95,
) -> tuple[LagCorrelation, ...]:
    """Correlation and semivariance of residuals by distance in time.

    Parameters
    ----------
    residuals : (n,) scaled to one variance.
    codes : (n,) unit of each row; pairs are formed inside units.
    time : (n,) or (n, d) places of the rows.
    by_rank : take the difference in rank as the distance (occasions without a scale).

    Raises
    ------
    InferenceError : no unit with two rows at different times.
    """
    places = np.asarray(time, dtype=np.float64).reshape(len(residuals), -1)
    order = np.lexsort((*places.T[::-1], codes))
    r, unit, at = residuals[order], codes[order], places[order]
    lags, firsts, seconds = [], [], []
    for k in range(1, min(MOST_RANKS, len(r) - 1) + 1):
        same = unit[k:] == unit[:-k]
        if not same.any():
            break
        gap = np.sqrt(((at[k:] - at[:-k])[same] ** 2).sum(axis=1))
        lags.append(np.full(len(gap), float(k)) if by_rank else gap)
        firsts.append(r[:-k][same])
        seconds.append(r[k:][same])
    lag = np.concatenate(lags) if lags else np.zeros(0)
    if not (lag > 0.0).any():
        raise InferenceError(
            "Correlations over time need units with rows at several times.",
            "no two rows of one unit at different times",
            "name the time and the unit: time=, group=",
        )
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    bins = _bins(lag)
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    out = []
    for number in range(int(bins.max()) + 1):
        own = bins == number
        n, one, two = int(own.sum()), first[own], second[own]
        if n >= FEWEST_PAIRS:
            size = float(np.sqrt((one @ one) * (two @ two)))
            correlation = float(one @ two) / size if size > 0.0 else float("nan")
            half = 0.5 * float(np.mean((one - two) ** 2))
            bound = z / float(np.sqrt(n))
            out.append(LagCorrelation(float(lag[own].mean()), n, correlation, half, bound))
    return tuple(out[:MOST_LAGS])


def _bins(lag: Array) -> NDArray[np.intp]:
    """Number of the bin of each distance: its own where few differ, else of equal numbers; -1: 0.

    Rows at the same place form no pair.
    """
    apart = lag > 0.0
    rounded = np.round(lag[apart] / lag[apart].max(), 9)
    distinct, place = np.unique(rounded, return_inverse=True)
    if len(distinct) > 2 * MOST_RANKS:
        edges = np.quantile(rounded, np.linspace(0.0, 1.0, MOST_LAGS + 1))
        place = np.clip(np.searchsorted(edges, rounded, side="right") - 1, 0, MOST_LAGS - 1)
    out = np.full(len(lag), -1, dtype=np.intp)
    out[apart] = place
    return out
