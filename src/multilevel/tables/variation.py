"""Where one variable varies: within and between the groups of a factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.tables.description import Variation
from multilevel.tables.levels import Codes

_NAN = float("nan")

# Differences below this share of the variable's largest deviation are rounding, not variation:
# group means merged into a file differ in the last digits when they were computed row by row.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class _Moments:
    """ANOVA moments; ``tau2`` may be negative."""

    sigma2: float
    tau2: float
    sd_means: float
    is_constant_between: bool


def describe_numeric(
    factor: str, values: NDArray[np.float64], codes: Codes, n_levels: int
) -> Variation:
    """Describe a numeric variable; (n,) values without missing, (n,) codes without -1."""
    n = len(values)
    sizes = np.bincount(codes, minlength=n_levels)
    centred = values - values.mean() if n else values
    scale = float(np.abs(centred).max(initial=0.0))
    share, is_constant = _share_constant(centred, codes, sizes, _ROUNDING * scale)
    used = sizes[sizes > 0]
    moments = _moments(centred, codes, sizes, is_constant, scale)
    tau2 = max(moments.tau2, 0.0) if not np.isnan(moments.tau2) else _NAN
    total = tau2 + moments.sigma2
    icc = tau2 / total if total > 0 else _NAN
    total_unclamped = moments.tau2 + moments.sigma2
    n_kish = float(np.sum(used.astype(float) ** 2) / n) if n else _NAN
    effect = 1 + (n_kish - 1) * icc
    reliability = float(np.mean(tau2 / (tau2 + moments.sigma2 / used))) if total > 0 else _NAN
    return Variation(
        factor=factor,
        n_rows=n,
        n_groups=len(used),
        share_constant=share,
        is_constant_within=is_constant,
        is_constant_between=moments.is_constant_between,
        sd_within=float(np.sqrt(moments.sigma2)),
        sd_between=float(np.sqrt(tau2)),
        sd_means=moments.sd_means,
        icc_unclamped=moments.tau2 / total_unclamped if total_unclamped > 0 else _NAN,
        icc=icc,
        is_clamped=bool(moments.tau2 < 0),
        design_effect=effect,
        design_effect_mean=1 + (n / max(len(used), 1) - 1) * icc,
        n_effective=n / effect,
        reliability=reliability,
    )


def describe_other(factor: str, values: Codes, codes: Codes, n_levels: int) -> Variation:
    """Describe text, categories and dates; (n,) codes of the values and of the groups."""
    sizes = np.bincount(codes, minlength=n_levels)
    share, is_constant = _share_constant(values.astype(float), codes, sizes, 0.0)
    return Variation(
        factor=factor,
        n_rows=len(values),
        n_groups=int((sizes > 0).sum()),
        share_constant=share,
        is_constant_within=is_constant,
        is_constant_between=bool(len(values) == 0 or values.min() == values.max()),
        sd_within=_NAN,
        sd_between=_NAN,
        sd_means=_NAN,
        icc_unclamped=_NAN,
        icc=_NAN,
        is_clamped=False,
        design_effect=_NAN,
        design_effect_mean=_NAN,
        n_effective=_NAN,
        reliability=_NAN,
    )


def _share_constant(
    values: NDArray[np.float64], codes: Codes, sizes: NDArray[np.int64], tolerance: float
) -> tuple[float, bool]:
    """Share of groups with two rows or more that are constant; and whether all are."""
    any_row = np.zeros(len(sizes))
    any_row[codes] = values
    difference = any_row[codes]
    difference -= values
    differs = np.abs(difference, out=difference) > tolerance
    varies = np.zeros(len(sizes), dtype=bool)
    varies[codes[differs]] = True
    n_groups = int((sizes > 1).sum())
    if n_groups == 0:
        return _NAN, False
    n_varying = int(varies.sum())
    return 1 - n_varying / n_groups, n_varying == 0


def _moments(
    centred: NDArray[np.float64],
    codes: Codes,
    sizes: NDArray[np.int64],
    is_constant: bool,
    scale: float,
) -> _Moments:
    """ANOVA moments of values centred at their mean; two passes, so that nothing cancels."""
    n, n_groups = len(centred), int((sizes > 0).sum())
    if n == 0:
        return _Moments(_NAN, _NAN, _NAN, True)
    means = np.bincount(codes, weights=centred, minlength=len(sizes)) / np.maximum(sizes, 1)
    used = means[sizes > 0]
    # The largest deviation of a constant variable is itself rounding error, so it is compared too.
    is_same = bool(np.ptp(used) <= _ROUNDING * scale) or scale == 0.0
    sd_means = float(np.std(used, ddof=1)) if n_groups > 1 else _NAN
    if n == n_groups or n_groups < 2:
        within = float(np.sum((centred - means[codes]) ** 2))
        sigma2 = within / (n - n_groups) if n > n_groups else _NAN
        return _Moments(sigma2, _NAN, sd_means, is_same)
    within = 0.0 if is_constant else float(np.sum((centred - means[codes]) ** 2))
    sigma2 = within / (n - n_groups)
    between = float(np.sum(sizes * means**2)) / (n_groups - 1)
    n0 = (n - float(np.sum(sizes.astype(float) ** 2)) / n) / (n_groups - 1)
    return _Moments(sigma2, (between - sigma2) / n0, sd_means, is_same)
