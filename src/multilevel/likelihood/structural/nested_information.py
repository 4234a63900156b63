"""Expected information of nested levels, from the gradient alone.

With V the covariance of all data and ``V_a`` its derivative, ``tr(V^-1 V_a V^-1 V_b)`` is minus the
derivative of ``tr(V^-1 V_a)`` along b with V_a held (Magnus & Neudecker 2019, section 15.3), and
``tr(V^-1 V_a)`` is the gradient of ``log|V|``: that of the criterion where the data equal their
means. ``mu_a'V^-1 mu_b`` likewise is half the derivative of the gradient in the means along b. Both
derivatives are complex steps. Right without random slopes, where V does not depend on the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.structural.nested import (
    NestedGradient,
    NestedMoments,
    UpperStatistics,
    nested_gradient,
    total_means,
)
from multilevel.likelihood.structural.random_slopes import SlopeMoments, SlopeStatistics
from multilevel.likelihood.structural.two_level import Moments

Array = NDArray[np.float64]
Numbers = NDArray[Any]
_STEP = 1e-30
#: Derivatives of the mean (q, P) and covariance (q, P, P) of each level, from the rows upwards.
LevelDirections = Sequence[tuple[Array, Array]]


def nested_information(
    stats: SlopeStatistics,
    uppers: Sequence[UpperStatistics],
    point: NestedMoments,
    along: LevelDirections,
) -> Array:
    """Expected information of the log-likelihood of one group in the directions ``along``, (q, q).

    Raises
    ------
    LikelihoodError : moments at which the likelihood does not exist.
    """
    empty, above = _at_the_mean(stats, uppers, point)
    q = len(along[0][0])
    out = np.zeros((q, q))
    nested_gradient(empty, above, point)  # real: refuses a point without a likelihood
    for b in range(q):
        for is_mean in (True, False):
            if not any(np.any(part[1 - is_mean][b]) for part in along):
                continue
            moved = nested_gradient(empty, above, _moved(point, along, b, is_mean))
            for (mean, cov), (d_mean, d_cov) in zip(_levels(moved), along, strict=True):
                if is_mean:
                    out[b] += 0.5 * (d_mean @ mean.imag) / _STEP
                else:
                    out[b] -= 0.5 * np.einsum("aij,ij->a", d_cov, cov.imag) / _STEP
    return np.asarray(0.5 * (out + out.T))


def _levels(gradient: NestedGradient) -> list[tuple[Numbers, Numbers]]:
    within = (gradient.mean_within.sum(axis=0), gradient.cov_within.sum(axis=0))
    upper = [(m[0], c[0]) for m, c in zip(gradient.means, gradient.covs, strict=True)]
    return [within, *upper]


def _moved(point: NestedMoments, along: LevelDirections, b: int, is_mean: bool) -> NestedMoments:
    """The point with the means or the covariances moved along direction b."""
    tilt, bend = (1j * _STEP, 0.0) if is_mean else (0.0, 1j * _STEP)
    low = point.lower.at
    pairs = [(low.mean_within, low.cov_within), (low.mean_between, low.cov_between), *point.upper]
    parts = [
        (mean + tilt * d_mean[b], cov + bend * d_cov[b])
        for (mean, cov), (d_mean, d_cov) in zip(pairs, along, strict=True)
    ]
    at = Moments(*parts[0], *parts[1])
    return NestedMoments(SlopeMoments(at, point.lower.N), tuple(parts[2:]))


def _at_the_mean(
    stats: SlopeStatistics, uppers: Sequence[UpperStatistics], point: NestedMoments
) -> tuple[SlopeStatistics, tuple[UpperStatistics, ...]]:
    """Statistics of data that have the same holes, and equal their means where they are seen."""
    base, d = stats.base, stats.n_random
    means = total_means(uppers, point)
    mean_rows = point.lower.at.mean_within + point.lower.N @ means[0][:d]
    base = replace(
        base,
        centre_y=mean_rows,
        centre_z=means[0][d:],
        pattern_sum=np.zeros_like(base.pattern_sum),
        pattern_cross=np.zeros_like(base.pattern_cross),
        pair_sum=np.zeros_like(base.pair_sum),
        z=np.zeros_like(base.z),
        rows=np.zeros_like(base.rows),
    )
    above = tuple(
        replace(u, centre_z=mean[len(u.lift) :], z=np.zeros_like(u.z))
        for u, mean in zip(uppers, means[1:], strict=True)
    )
    return replace(stats, base=base, vx=np.zeros_like(stats.vx)), above
