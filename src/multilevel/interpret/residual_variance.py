"""``R``, ``V`` and their correlations for the rows of one unit or cluster."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.interpret.variance import ClusterCovariance, find_block, find_level
from multilevel.likelihood.residual.dense import residual_matrices

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.design.residual_layout import ResidualLayout
    from multilevel.estimate.records import Fit, ResidualFit

Array = NDArray[np.float64]
MAX_ROWS = 200


def _records(design: Design, fit: Fit) -> tuple[ResidualLayout, ResidualFit]:
    if design.residual is None or fit.residual is None:
        raise InferenceError(
            "A residual structure is needed.",
            "a fit with independent residuals of one variance",
            "use residual_variance",
        )
    return design.residual, fit.residual


def residual_matrix(design: Design, fit: Fit, unit: Hashable = None) -> ClusterCovariance:
    """``R`` of the rows of one unit, in the order of time, squared response units.

    Parameters
    ----------
    unit : its label; the first of the units with the most rows if not given.

    Raises
    ------
    InferenceError : no residual structure, an unknown unit, one with more than 200 rows.
    """
    layout, record = _records(design, fit)
    if unit is None:
        code = int(np.argmax(np.diff(layout.starts)))
    else:
        hits = [k for k, label in enumerate(layout.units) if str(label) == str(unit)]
        if not hits:
            some = ", ".join(map(str, layout.units[:5]))
            raise InferenceError(
                "The unit must occur in the data.", repr(unit), f"use one such as {some}"
            )
        code = hits[0]
    rows = layout.order[layout.starts[code] : layout.starts[code + 1]]
    group = "" if layout.term is None else layout.term.group
    return _finished(design, fit, group, layout.units[code], rows, record, with_effects=False)


def total_matrix(
    design: Design, fit: Fit, group: str | None = None, level: Hashable = None
) -> ClusterCovariance:
    """``V = ZGZ' + R`` of the rows of one cluster (of one unit where nothing is random).

    Raises
    ------
    InferenceError : an unknown group or level, or more than 200 rows.
    """
    layout, record = _records(design, fit)
    if not design.blocks:
        if group is not None and (layout.term is None or group != layout.term.group):
            raise InferenceError(
                "The model has no random effects, only residual units.",
                f"group={group!r}",
                "leave group out",
            )
        return residual_matrix(design, fit, level)
    block = find_block(design, group)
    code = 0 if level is None else find_level(block, level)
    rows = layout.order[block.codes[layout.order] == code]
    return _finished(design, fit, block.group, block.levels[code], rows, record, with_effects=True)


def _finished(
    design: Design, fit: Fit, group: str, label: object, rows: NDArray[np.intp],
    record: ResidualFit, with_effects: bool,
) -> ClusterCovariance:  # fmt: skip
    if len(rows) > MAX_ROWS:
        raise InferenceError(
            f"A covariance matrix is laid out for at most {MAX_ROWS} rows.",
            f"{group} {label} has {len(rows)} rows",
            "choose a smaller unit",
        )
    layout = _records(design, fit)[0]
    V = fit.sigma2 * residual_matrices(layout, record.phi, rows[None])[0][0]
    if with_effects:
        for block, G in zip(design.blocks, fit.random_covariance, strict=True):
            Z, codes = block.columns[rows], block.codes[rows]
            V = V + (Z @ G @ Z.T) * (codes[:, None] == codes[None, :])
    sd = np.sqrt(np.diag(V))
    return ClusterCovariance(group, label, rows, V, V / np.outer(sd, sd))
