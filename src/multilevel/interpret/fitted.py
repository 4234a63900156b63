"""Fitted values and residuals of the analysed rows.

Source: Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS, section 4.3 (which residuals
answer which question).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.related import RelatedBlock
from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
FittedKind = Literal["conditional", "population", "marginal"]
ResidualKind = Literal["conditional", "marginal", "standardised"]
FITTED_KINDS: tuple[str, ...] = get_args(FittedKind)
RESIDUAL_KINDS: tuple[str, ...] = get_args(ResidualKind)

#: Rows handled at once, so that no temporary as long as the table times q is made.
CHUNK = 1 << 16


def check_kind(kind: str, allowed: Sequence[str], what: str) -> str:
    """Return ``kind``, or raise ``InferenceError`` with the allowed list."""
    if kind not in allowed:
        raise InferenceError(
            f"The kind of {what} must be one of {', '.join(map(repr, allowed))}.",
            f"kind={kind!r}",
            f"write kind={allowed[0]!r}",
        )
    return kind


def fixed_part(X: Array, beta: Array, offset: Array | None) -> Array:
    """``X beta`` plus the offset: (n,), in units of the response."""
    out = X @ beta if X.shape[1] else np.zeros(X.shape[0])
    return out if offset is None else out + offset


def add_random_part(out: Array, codes: NDArray[np.int32], columns: Array, estimates: Array) -> None:
    """Add ``z_i' b_g(i)`` to ``out`` in place; rows with code -1 (unknown level) get nothing.

    ``codes`` (n,), ``columns`` (n, q), ``estimates`` (J, q) on the raw scale.
    """
    for start in range(0, len(out), CHUNK):
        rows = slice(start, start + CHUNK)
        code = codes[rows]
        known = code >= 0
        part = np.zeros(len(code))
        for a in range(columns.shape[1]):
            part += columns[rows, a] * estimates[code, a]
        out[rows] += np.where(known, part, 0.0)


def fitted_values(
    design: Design, fit: Fit, estimates: Sequence[Array] = (), kind: str = "conditional"
) -> Array:
    """Fitted values of the analysed rows: (n,), in units of the response, offset included.

    Parameters
    ----------
    design, fit : the design and its fit.
    estimates : per block (J, q) random-effect estimates; needed for ``"conditional"`` only.
    kind : ``"conditional"`` is ``X beta + Z b``; ``"population"`` sets all random effects to
        zero; ``"marginal"`` integrates over them, which for the identity link is the same number.

    Raises
    ------
    InferenceError : an unknown kind.
    """
    check_kind(kind, FITTED_KINDS, "fitted values")
    out = fixed_part(design.X, fit.beta, design.offset)
    if kind == "conditional":
        for block, b in zip(design.blocks, estimates, strict=True):
            if isinstance(block, RelatedBlock):
                out += block.on_rows(b)
            else:
                add_random_part(out, block.codes, block.columns, b)
    return out


def residuals(
    design: Design, fit: Fit, estimates: Sequence[Array] = (), kind: str = "conditional"
) -> Array:
    """Residuals of the analysed rows: (n,).

    Parameters
    ----------
    design, fit : the design and its fit.
    estimates : per block (J, q) random-effect estimates; not needed for ``"marginal"``.
    kind : ``"conditional"`` is ``y - X beta - Z b`` and ``"marginal"`` is ``y - X beta``, both in
        units of the response with the offset taken off; ``"standardised"`` is the conditional
        residual divided by its model standard deviation ``sigma / sqrt(weight)``.

    Raises
    ------
    InferenceError : an unknown kind.
    """
    check_kind(kind, RESIDUAL_KINDS, "residuals")
    part = "population" if kind == "marginal" else "conditional"
    out = design.y - fitted_values(design, fit, estimates, part)
    if kind == "standardised":
        out /= np.sqrt(fit.sigma2)
        if design.weights is not None:
            out *= np.sqrt(design.weights)
    return out
