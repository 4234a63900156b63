r"""Checks of a fit with structured residuals, on rows whose variances and correlations are out.

Normalised residuals are divided by ``sqrt(1 - leverage)`` of the whitened row: what is left has
variance one if the model holds. Equal variances are judged twice: between clusters by each
cluster's own regression on its whitened rows (Raudenbush & Bryk's H), and between strata (the
categories of ``by``, the occasions) by ``S_j^2 = sum e^2 / f_j``, ``f_j = sum (1 - leverage)``.
Source: Pinheiro & Bates 2000, section 5.1.2; Raudenbush & Bryk 2002, eq. 9.4-9.5 (H).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import StructuredPrepared
from multilevel.infer.residual_rows import StructuredRows
from multilevel.infer.robust_clusters import is_inside
from multilevel.interpret.heteroscedasticity import (
    LEAST_DF,
    VarianceHomogeneity,
    judged,
    variance_homogeneity,
)
from multilevel.interpret.residual_diagnostics import RowResiduals, over
from multilevel.interpret.residual_icc import MOST_CELLS
from multilevel.likelihood.residual.objective import StructuredObjective

Array = NDArray[np.float64]
SIGNIFICANT = 0.05
QUARTERS = ("lowest quarter", "second", "third", "highest quarter")  # of the rows by their mean


def normalised_residuals(rows: StructuredRows) -> RowResiduals:
    """Residuals of the rows; ``conditional_std`` are the normalised ones over their own spread."""
    sigma = float(np.sqrt(rows.working.sigma2)) * rows.working.y_scale
    middle = float(np.median(rows.marginal_variance))
    return RowResiduals(
        rows.conditional,
        rows.marginal,
        over(rows.normalised, 1.0 - rows.leverage, 1.0),
        over(rows.marginal / sigma, rows.marginal_variance, middle),
    )


def conditional_std(rows: StructuredRows) -> Array:
    """Conditional residuals of rows as they are, over their own standard deviation: (n,)."""
    sigma = float(np.sqrt(rows.working.sigma2)) * rows.working.y_scale
    scale = float(np.median(rows.residual_variance))
    return over(rows.conditional / sigma, rows.conditional_variance, scale)


@dataclass(frozen=True)
class Neighbours:
    """Correlation of neighbouring normalised residuals of one unit.

    Attributes
    ----------
    n_pairs : rows and the row after them in their unit.
    observed : their correlation; ``expected`` what it is if the model holds (a little below zero:
        effects of clusters are estimated from the same rows).
    """

    n_pairs: int
    observed: float
    expected: float

    @property
    def sentence(self) -> str:
        """Whether the structure has left something."""
        bound = 2.0 / float(np.sqrt(self.n_pairs))
        gap = self.observed - self.expected
        finding = (
            "no correlation is left"
            if abs(gap) <= bound
            else "correlation is left that the model does not describe"
            if gap > 0.0
            else "the model takes out more correlation than there is"
        )
        return (
            f"Neighbouring normalised residuals correlate {self.observed:.2f}; {self.expected:.2f}"
            f" is expected if the model holds, give or take {bound:.2f}: {finding}."
        )


def neighbours(
    prepared: StructuredPrepared, objective: StructuredObjective, psi: Array
) -> Neighbours | None:
    """Correlation of neighbours in time within units; None where units are single rows."""
    layout = prepared.layout
    unit = np.repeat(np.arange(len(layout.starts) - 1), np.diff(layout.starts))
    first = np.flatnonzero(unit[1:] == unit[:-1])
    if len(first) < 2:
        return None
    e, (U, Y) = objective.conditional_residuals(psi), objective.projection(psi)
    spread = 1.0 - np.einsum("ic,ic->i", U, Y)
    shared = -np.einsum("ic,ic->i", U[first], Y[first + 1])
    size = np.sqrt(spread[first].mean() * spread[first + 1].mean())
    scale = np.sqrt(np.mean(e[first] ** 2) * np.mean(e[first + 1] ** 2))
    observed = float(np.mean(e[first] * e[first + 1]) / scale)
    return Neighbours(len(first), observed, float(shared.mean() / size))


def structured_homogeneity(
    prepared: StructuredPrepared, fit: Fit, rows: StructuredRows, group: str | None = None
) -> VarianceHomogeneity:
    """Whether the residual variance differs between clusters, or strata, once the model is out.

    Parameters
    ----------
    group : grouping factor or unit of the residual structure that holds whole units; a stratum:
        ``by``, the predictors of ``scale=`` or the time; default the finest factor that will do.

    Raises
    ------
    InferenceError : another name, fewer than two clusters with 10 degrees of freedom.
    """
    strata = _strata(prepared)
    if group is not None and group in strata:
        codes, labels = strata[group]
        found = judged(group, labels, *_strata_squares(rows, codes, len(labels)))
        return replace(found, sentence=_verdict(fit, found, None))
    name, codes, labels = _clusters(prepared, group)
    found = judged(name, labels, *_whitened_squares(rows, codes, len(labels)))
    blocks = [b for b in prepared.plain.design.blocks if b.group == name]
    before = variance_homogeneity(prepared.plain.design, name) if blocks else None
    return replace(found, sentence=_verdict(fit, found, before))


def default_strata(prepared: StructuredPrepared) -> str | None:
    """The stratum to be judged where clusters are too small: ``by``, else the time."""
    return next(iter(_strata(prepared)), None)


def _verdict(fit: Fit, found: VarianceHomogeneity, before: VarianceHomogeneity | None) -> str:
    text = f"With the variances and correlations of the model taken out: {found.sentence}"
    record = fit.residual
    if record is None or record.n_variances == 0 or before is None:
        return text
    differs, differed = found.p_value < SIGNIFICANT, before.p_value < SIGNIFICANT
    was = f"(H before: {before.statistic:.1f}, after: {found.statistic:.1f})"
    if differed and not differs:
        return f"{text} The model for the variance accounts for the differences {was}."
    if differs:
        return f"{text} The model for the variance does not account for all of it {was}."
    return text


def _strata(prepared: StructuredPrepared) -> dict[str, tuple[NDArray[np.int32], NDArray[Any]]]:
    """Codes (n,) and labels of ``by``, of the predictors of ``scale=`` and of the occasions; of
    quarters of the mean where the variance is a power of it."""
    layout, out = prepared.layout, {}
    term = layout.term
    if term is not None and term.by is not None:
        category = layout.group_of[layout.codes].astype(np.int32)
        out[term.by] = category, np.asarray(layout.groups, dtype=object)
    k = len(layout.cells) - 1
    own, names = layout.variance_columns[:, k:], layout.variance_names[k:]
    if names and not layout.has_power_of_mean:
        found, place = np.unique(own, axis=0, return_inverse=True)
        if len(found) <= MOST_CELLS:
            said = [
                ", ".join(f"{n} = {v:g}" for n, v in zip(names, row, strict=True)) for row in found
            ]
            out[", ".join(names)] = place.ravel().astype(np.int32), np.asarray(said, dtype=object)
    if layout.has_power_of_mean:
        edges = np.quantile(layout.variance_columns[:, -1], (0.25, 0.5, 0.75))
        quarter = np.searchsorted(edges, layout.variance_columns[:, -1]).astype(np.int32)
        out["mean"] = quarter, np.asarray(QUARTERS, dtype=object)
    if term is not None and len(term.coordinates) == 1:
        values, codes = np.unique(layout.position[:, 0], return_inverse=True)
        labels = np.asarray([f"{v:g}" for v in values], dtype=object)
        if len(layout.time.occasions) == len(values):
            labels = np.asarray(layout.time.occasions, dtype=object)
        elif np.isfinite(layout.time.step):
            times = layout.time.origin + values * layout.time.step
            labels = np.asarray([f"{v:g}" for v in times], dtype=object)
        out[term.coordinates[0]] = codes.ravel().astype(np.int32), labels
    return out


def _strata_squares(
    rows: StructuredRows, codes: NDArray[np.int32], J: int
) -> tuple[Array, NDArray[np.intp]]:
    """Mean squares of normalised residuals by stratum: one where the model is right."""
    df = np.bincount(codes, 1.0 - rows.leverage, minlength=J)
    sums = np.bincount(codes, rows.normalised**2, minlength=J)
    squares = np.divide(sums, df, out=np.full(J, np.nan), where=df > 0)
    return squares, np.rint(df).astype(np.intp)


def _clusters(
    prepared: StructuredPrepared, group: str | None
) -> tuple[str, NDArray[np.int32], NDArray[Any]]:
    """Name, codes (n,) and labels of the clusters to judge: they hold whole units."""
    design, layout = prepared.plain.design, prepared.layout
    known: dict[str, tuple[NDArray[np.int32], NDArray[Any]]] = {
        b.group: (b.codes, b.levels)
        for b in design.blocks
        if not layout.has_correlation or is_inside(layout.codes, b.codes)
    }
    term = layout.term
    if term is not None and term.factors:
        known.setdefault(term.group, (layout.codes, layout.units))
    name = next(iter(known), None) if group is None else group
    if name is None or name not in known:
        names = ", ".join(dict.fromkeys([*known, *_strata(prepared)]))
        raise InferenceError(
            "group must hold whole units of the residual structure, or be what variances depend"
            " on.",
            f"{name!r}; this model has {names or 'none'}",
            "name one of them, or look at normalised residuals against fitted(): row_diagnostics()",
        )
    return name, *known[name]


def _whitened_squares(
    rows: StructuredRows, codes: NDArray[np.int32], J: int
) -> tuple[Array, NDArray[np.intp]]:
    """Mean squares of each cluster's own regression on its whitened rows."""
    columns = np.column_stack([rows.whitened_one, rows.whitened])
    out, df = np.full(J, np.nan), np.zeros(J, dtype=np.intp)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=J))
    for j in range(J):
        own = order[ends[j - 1] if j else 0 : ends[j]]
        if len(own) <= LEAST_DF:
            continue
        x = columns[own]
        size = np.sqrt((x**2).sum(axis=0))
        basis, values, _ = np.linalg.svd(x[:, size > 0] / size[size > 0], full_matrices=False)
        basis = basis[:, values > 1e-9 * values[0]]
        y = rows.whitened_y[own]
        rest = y - basis @ (basis.T @ y)
        df[j] = len(own) - basis.shape[1]
        if df[j] > 0:
            out[j] = float(rest @ rest) / df[j]
    return out, df
