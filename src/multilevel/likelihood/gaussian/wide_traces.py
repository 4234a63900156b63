"""Traces of the exact Hessian for terms with many columns and few parameters.

``objective.exact_hessian`` aggregates over levels first, ``q^4`` numbers; with r directions and
many columns it is cheaper to apply the directions level by level, ``r q^3`` each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CHUNK = 2_000_000  # numbers that are held at once


def is_wide(r: int, q: int) -> bool:
    """Whether directions (r, q, q) are better applied level by level."""
    return 3 * r < q


def wide_traces(D: Array, G: Array, g: Array, Y: Array | None) -> tuple[Array, Array, Array]:
    """``sum_j`` of ``tr(G D_a G D_b)``, ``g'D_a G D_b g`` and ``tr(Y'D_a G D_b Y)`` (r, r) each.

    Parameters
    ----------
    D : (r, q, q) symmetric; G (J, q, q); g (J, q); Y (J, q, p), or None (zeros).
    """
    r, q = D.shape[:2]
    GG, gG, YG = np.zeros((r, r)), np.zeros((r, r)), np.zeros((r, r))
    width = 1 if Y is None else 1 + Y.shape[2]
    step = max(1, CHUNK // (r * q * (q + width)))
    for start in range(0, len(G), step):
        part = slice(start, start + step)
        GD = G[part] @ D[:, None]  # (r, j, q, q)
        flat = GD.reshape(r, -1)
        GG += flat @ GD.transpose(0, 1, 3, 2).reshape(r, -1).T
        left = np.einsum("rab,jb->rja", D, g[part])
        right = np.einsum("jab,rjb->rja", G[part], left)
        gG += left.reshape(r, -1) @ right.reshape(r, -1).T
        if Y is not None:
            own = D[:, None] @ Y[part]
            YG += own.reshape(r, -1) @ (G[part] @ own).reshape(r, -1).T
    return GG, gG, YG
