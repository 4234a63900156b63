"""Predictions where rows have several levels or levels are correlated.

The formulas are those of ``prediction_variance``, in the coordinates of the levels:
``Var(m^ - m) = sigma2 [z'N z + (x - H_X'z)' Txx^-1 (x - H_X'z)]`` with ``N = Var(b | y) / sigma2``
and ``H = (A (x) Psi) Z'V^-1 W``. A level that is not known adds its whole variance.
Source: Henderson 1975 (Biometrics 31:423), eq. 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.design.related import RelatedBlock, row_variances
from multilevel.design.replay import NewBlock, NewRows, replay
from multilevel.errors import InferenceError
from multilevel.estimate.posterior import evaluated
from multilevel.interpret.fitted import check_kind, fixed_part
from multilevel.interpret.predict import (
    CAVEAT,
    NEW_LEVELS,
    PREDICTION_KINDS,
    PREDICTION_SENTENCES,
    STD_ERROR_SENTENCES,
    Prediction,
)
from multilevel.likelihood.related.engine import RelatedEngine

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
ROWS_AT_ONCE = 256


def new_loadings(block: NewBlock, n_levels: int) -> tuple[sparse.csr_array, Array]:
    """Loadings on the known levels (n, J), and the sum of squared weights of unknown ones (n,)."""
    if block.memberships is not None:
        unknown = np.where(block.memberships.codes < 0, block.memberships.weights, 0.0)
        return block.memberships.loadings(n_levels), (unknown**2).sum(axis=1)
    known = np.flatnonzero(block.codes >= 0)
    entries = (np.ones(len(known)), (known, block.codes[known]))
    loads = sparse.csr_array(entries, shape=(len(block.codes), n_levels))
    return loads, (block.codes < 0).astype(np.float64)


def predict_related(
    prepared: Prepared,
    fit: Fit,
    table: Any,
    estimates: Sequence[Array] = (),
    *,
    kind: str = "conditional",
    new_levels: str = "zero",
    std_error: bool = False,
) -> Prediction:
    """Predict the response for the rows of a new table; arguments as in ``predict_rows``.

    A level of the relation without rows in the data has its own prediction; one that the relation
    does not have is taken as unrelated, with variance sigma^2.

    Raises
    ------
    InferenceError : an unknown option, or new levels under ``new_levels="error"``.
    """
    check_kind(kind, PREDICTION_KINDS, "prediction")
    if new_levels not in NEW_LEVELS:
        raise InferenceError(f"new_levels must be one of {', '.join(map(repr, NEW_LEVELS))}.",
                             f"new_levels={new_levels!r}", "write new_levels='zero'")  # fmt: skip
    design = prepared.design
    conditional = kind == "conditional"
    has_groups = conditional or (kind == "marginal" and std_error)
    rows = replay(design, table, groups="match" if has_groups else "ignore")
    unknown = {b.group: b.new_levels for b in rows.blocks if b.new_levels} if conditional else {}
    if unknown and new_levels == "error":
        group, labels = next(iter(unknown.items()))
        raise InferenceError(
            f"Every level of {group} in the new table must be known.",
            f"{len(labels)} new: {', '.join(map(str, labels[:5]))}",
            "write new_levels='zero' to predict them at random effects of zero",
        )
    mean = fixed_part(rows.X, fit.beta, rows.offset)
    loads = [
        new_loadings(new, old.n_levels) for new, old in zip(rows.blocks, design.blocks, strict=True)
    ]
    if conditional:
        for new, (known, _), b in zip(rows.blocks, loads, estimates, strict=True):
            mean = mean + np.einsum("iq,iq->i", new.columns, known @ b)
    of_mean = of_row = None
    sentence = ""
    if std_error:
        variance, extra = _variances(prepared, fit, rows, loads, kind)
        of_mean, of_row = np.sqrt(variance), np.sqrt(variance + extra)
        sentence = f"{STD_ERROR_SENTENCES[kind]} {PREDICTION_SENTENCES[kind]} {CAVEAT}"
    return Prediction(
        kind,
        _laid_out(mean, rows),
        None if of_mean is None else _laid_out(of_mean, rows),
        None if of_row is None else _laid_out(of_row, rows),
        rows.rows.n_dropped,
        dict(rows.rows.missing),
        unknown,
        sentence,
    )


def _laid_out(values: Array, rows: NewRows) -> Array:
    out = np.full(rows.rows.n_table, np.nan)
    out[rows.rows.kept] = values
    return out


def _variances(
    prepared: Prepared,
    fit: Fit,
    rows: NewRows,
    loads: Sequence[tuple[sparse.csr_array, Array]],
    kind: str,
) -> tuple[Array, Array]:
    """Variance of the predicted mean, and what one new observation adds to it: (n,) each."""
    extra = np.full(rows.n, fit.sigma2)
    if kind == "conditional":
        return _conditional(prepared, fit, rows, loads), extra
    if kind == "marginal":
        pieces = zip(rows.blocks, prepared.design.blocks, loads, fit.random_covariance, strict=True)
        for new, old, (known, unknown), G in pieces:
            relation = old.relation if isinstance(old, RelatedBlock) else None
            size = row_variances(known, relation) + unknown
            extra += size * np.einsum("ia,ab,ib->i", new.columns, G, new.columns, optimize=True)
    variance = np.einsum("ia,ab,ib->i", rows.X, fit.vcov_beta, rows.X, optimize=True)
    return np.maximum(variance, 0.0), extra


def _conditional(
    prepared: Prepared,
    fit: Fit,
    rows: NewRows,
    loads: Sequence[tuple[sparse.csr_array, Array]],
) -> Array:
    """Exact variance of the error of the predicted mean of each row, (n,)."""
    p, scaling = fit.n_fixed, prepared.scaling
    objective = evaluated(prepared, fit)
    engine = objective.engine
    if not isinstance(engine, RelatedEngine):
        raise InferenceError("Related levels need their engine.", engine.name, "use predict_rows")
    columns = [b.columns @ B for b, B in zip(rows.blocks, scaling.random, strict=True)]
    gap = rows.X @ scaling.U[:p, :p]
    total = np.zeros(rows.n)
    for t, ((known, unknown), Z) in enumerate(zip(loads, columns, strict=True)):
        L = objective.factors[t]
        total += unknown * np.einsum("ia,ab,ib->i", Z, L @ L.T, Z, optimize=True)
        H = engine.solution(t)[:, :, :p]
        for a in range(Z.shape[1]):
            gap -= Z[:, [a]] * (known @ H[:, a, :])
    for start in range(0, rows.n, ROWS_AT_ONCE):
        part = slice(start, min(start + ROWS_AT_ONCE, rows.n))
        Zs = [
            np.einsum("kj,ka->jak", known[part].toarray(), Z[part])
            for (known, _), Z in zip(loads, columns, strict=True)
        ]
        for X, N in zip(Zs, engine.posterior_product(Zs), strict=True):
            total[part] += np.einsum("jak,jak->k", X, N)
    if p:
        root = np.linalg.cholesky(engine.T[:p, :p])
        total += np.sum(np.linalg.solve(root, gap.T) ** 2, axis=0)
    return fit.sigma2 * np.maximum(total, 0.0)
