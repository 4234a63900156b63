"""Whether one structure of random effects is a special case of another that is not linear.

A table of families stands in for linear spans: ``ar1`` is a ``toep`` with geometric correlations,
``toep`` a ``toeph`` with equal variances, and so on; limits (correlation 1, range 0) count too,
where the chi-square distribution of a comparison is conservative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.model.covariance.curves import FACTORED, HOMOGENEOUS, Curve

if TYPE_CHECKING:
    from multilevel.design.records import RandomBlock

Array = NDArray[np.float64]
_DECAYS = ("car1", "exp", "gau", "sph")
_BY_LAG = ("identity", "compound_symmetry", "ar1", "arma11", "toep", *_DECAYS)
_HOLDS: dict[str, tuple[str, ...]] = {
    "ar1": ("identity",),
    "arma11": ("identity", "ar1"),
    "toep": _BY_LAG,
    "car1": ("identity", "exp"),
    "exp": ("identity", "car1"),
    "gau": ("identity",),
    "sph": ("identity",),
    "arh1": ("identity", "diagonal", "ar1"),
    "csh": ("identity", "diagonal", "compound_symmetry"),
    "toeph": (*_BY_LAG, "diagonal", "csh", "arh1"),
    "fa": ("identity", "diagonal", "rr"),
    "rr": (),
}
_BANDED = {"toep": ("identity",), "toeph": ("identity", "diagonal", "toep")}


def hull(curve: Curve) -> list[Array]:
    """Symmetric matrices (q, q) whose span holds every Psi of a structure."""
    q = curve.width
    if curve.structure in HOMOGENEOUS:
        place = np.asarray(curve.positions)
        gaps = np.round(np.abs(place[:, None] - place[None, :]), 10)
        return [(gaps == gap).astype(np.float64) for gap in np.unique(gaps)]
    out = []
    for a in range(q):
        for b in range(a + 1):
            S = np.zeros((q, q))
            S[a, b] = S[b, a] = 1.0
            out.append(S)
    return out


def curved_rows(block: RandomBlock) -> NDArray[np.bool_]:
    """Columns (q,) of nonlinear terms."""
    out = np.zeros(len(block.names), dtype=np.bool_)
    for number, (start, stop, _) in enumerate(block.structure.terms):
        out[start:stop] = block.structure.curve(number) is not None
    return out


def by_term(
    small: RandomBlock,
    inner: Array,
    large: RandomBlock,
    outer: Array,
    combination: Callable[[Array, Array], Array | None],
) -> Array | None:
    """``A`` with ``inner = outer A``, each term of ``small`` on the linear columns of ``large`` or
    on one of its nonlinear terms (an intercept is the sum of all occasions too)."""
    curved = curved_rows(large)
    places = [np.flatnonzero(~curved)]
    places += [np.arange(a, b) for a, b, _ in large.structure.terms if curved[a]]
    A = np.zeros((outer.shape[1], inner.shape[1]))
    for start, stop, _ in small.structure.terms:
        for place in places:
            found = combination(inner[:, start:stop], outer[:, place])
            if found is not None:
                A[place, start:stop] = found
                break
        else:
            return None
    return A


def curved_terms_hold(small: RandomBlock, large: RandomBlock, A: Array) -> bool:
    """Whether what ``small`` puts on nonlinear terms of ``large`` (columns ``Z0 = Z1 A``) is a
    special case of them, term by term."""
    for number, (start, stop, _) in enumerate(large.structure.terms):
        curve = large.structure.curve(number)
        if curve is None:
            continue
        used = np.flatnonzero(np.any(A[start:stop] != 0.0, axis=0))
        if len(used) == 0:
            continue
        outside = np.delete(A[:, used], np.arange(start, stop), axis=0)
        if np.any(outside != 0.0):
            return False
        terms = enumerate(small.structure.terms)
        found = [k for k, (a, b, _) in terms if a == used[0] and b == used[-1] + 1]
        if len(found) != 1:
            return False
        own = A[start:stop, used]
        if not _is_held(small, found[0], own, curve):
            return False
    return True


def _is_held(small: RandomBlock, term: int, A: Array, large: Curve) -> bool:
    structure, curve = small.structure.terms[term][2], small.structure.curve(term)
    if A.shape[1] == 1:  # one effect in all columns: correlation 1, or one common factor
        return bool(np.ptp(A) <= 1e-9 * np.abs(A).max()) or large.structure in FACTORED
    if A.shape[0] != A.shape[1] or not np.allclose(A, np.eye(len(A)), atol=1e-8):
        return False
    if curve is not None and not np.allclose(_gaps(curve), _gaps(large)):
        same = curve.structure in FACTORED or curve.structure in ("csh", "fa", "rr")
        if not same and not (structure in _DECAYS and large.structure.startswith("toep")):
            return False
    if structure == large.structure and curve is not None:
        return curve.order <= large.order or large.order == 0
    if large.structure in ("fa", "rr") and structure in ("fa", "rr"):
        return structure == "rr" and curve is not None and curve.order <= large.order
    if large.order and large.structure in _BANDED:
        banded = curve is None or 0 < curve.order <= large.order
        return structure in _BANDED[large.structure] and banded
    return structure in _HOLDS[large.structure]


def _gaps(curve: Curve) -> Array:
    place = np.asarray(curve.positions)
    return np.asarray(np.abs(place[:, None] - place[None, :]))
