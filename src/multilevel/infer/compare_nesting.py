"""Whether one model is a special case of another, judged on columns and not on names.

A model for the means is nested if its column space lies in the other's. A model for the variance
``{Z0 Psi0 Z0'}`` is nested in ``{Z1 Psi1 Z1'}`` if, factor by factor, ``Z0 = Z1 A`` and
``A S A'`` lies in the linear span of the other's structure for every ``S`` of its own.
Source: Seber & Lee 2003, section 3.8 (column spaces); own derivation for the covariances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import unscaled_columns
from multilevel.design.related import has_same_levels, is_related
from multilevel.infer.compare_structures import by_term, curved_rows, curved_terms_hold, hull

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock
    from multilevel.model.covariance.structures import FactorMap

Array = NDArray[np.float64]
TOLERANCE = 1e-7


@dataclass(frozen=True)
class ConePart:
    """One term of the larger model as seen from the smaller.

    Attributes
    ----------
    block, start, stop : where the term is in the larger model.
    free : (f, q, q) directions of Psi that may go both ways there (interior or covariances).
    cone : (d, q) orthonormal null columns of an unstructured term (its part is a PSD matrix).
    rays : (k, q, q) directions that may only grow from zero (structured terms).
    """

    block: int
    start: int
    stop: int
    free: Array
    cone: Array
    rays: Array


@dataclass(frozen=True)
class Nesting:
    """How the smaller model lies in the larger.

    Attributes
    ----------
    maps : per block of the larger, ``(block of the smaller or None, A (q1, q0))``.
    parts : the terms of the larger model, seen from the smaller.
    """

    maps: tuple[tuple[int | None, Array], ...]
    parts: tuple[ConePart, ...]

    @property
    def n_boundary(self) -> int:
        """Dimension of the part that may only grow from zero."""
        return sum(len(p.rays) + len(p.cone) * (len(p.cone) + 1) // 2 for p in self.parts)

    @property
    def n_new_variances(self) -> int:
        """Variances of the larger model that are zero in the smaller."""
        return sum(len(p.rays) + len(p.cone) for p in self.parts)


def column_space_within(inner: Array, outer: Array) -> bool:
    """Whether every column of ``inner`` (n, p0) is a combination of those of ``outer`` (n, p1)."""
    if inner.shape[1] == 0:
        return True
    return _combination(inner, outer) is not None


def same_column_space(first: Array, second: Array) -> bool:
    """Whether two matrices of full column rank span the same space."""
    return first.shape[1] == second.shape[1] and column_space_within(first, second)


def _combination(inner: Array, outer: Array) -> Array | None:
    """``A`` with ``inner = outer A``, or None if there is none."""
    if outer.shape[1] == 0:
        return None
    scale_outer = np.sqrt(np.maximum((outer**2).mean(0), 1e-300))
    scale_inner = np.sqrt(np.maximum((inner**2).mean(0), 1e-300))
    A = np.linalg.lstsq(outer / scale_outer, inner / scale_inner, rcond=None)[0]
    residual = inner / scale_inner - (outer / scale_outer) @ A
    if float(np.sqrt((residual**2).mean(0)).max(initial=0.0)) > TOLERANCE:
        return None
    A = A / scale_outer[:, None] * scale_inner
    A[np.abs(A) < 1e-10 * np.abs(A).max(initial=1e-300)] = 0.0
    return np.asarray(A)


def same_partition(first: NDArray[np.int32], second: NDArray[np.int32]) -> bool:
    """Whether two codings of the rows define the same groups."""
    if int(first.max(initial=-1)) != int(second.max(initial=-1)):
        return False
    to_second = np.zeros(int(first.max(initial=-1)) + 1, dtype=np.int64)
    to_second[first] = second
    return bool(
        np.array_equal(to_second[first], second) and len(np.unique(to_second)) == len(to_second)
    )


def span(mapping: FactorMap) -> list[Array]:
    """A basis of the linear span of ``Psi`` (each q x q symmetric); of its hull if not linear."""
    q = mapping.basis.shape[1]
    out = []
    for number, (start, stop, structure) in enumerate(mapping.terms):
        curve = mapping.curve(number)
        local = _local_span(structure, stop - start) if curve is None else hull(curve)
        out += [_placed(S, start, q) for S in local]
    return out


def _placed(S: Array, start: int, q: int) -> Array:
    whole = np.zeros((q, q))
    whole[start : start + len(S), start : start + len(S)] = S
    return whole


def _local_span(structure: str, q: int) -> list[Array]:
    if structure == "identity":
        return [np.eye(q)]
    if structure == "compound_symmetry":
        mean = np.full((q, q), 1.0 / q)
        return [np.eye(q) - mean, mean]
    units = np.eye(q)
    out = [np.outer(units[a], units[a]) for a in range(q)]
    if structure == "unstructured":
        out += [
            np.outer(units[a], units[b]) + np.outer(units[b], units[a])
            for a in range(q)
            for b in range(a)
        ]
    return out


def _in_span(S: Array, basis: list[Array]) -> bool:
    if not basis:
        return not np.any(S)
    M = np.stack([B.ravel() for B in basis], axis=1)
    fitted = M @ np.linalg.lstsq(M, S.ravel(), rcond=None)[0]
    return bool(np.abs(fitted - S.ravel()).max() <= 1e-8 * max(float(np.abs(S).max()), 1e-300))


def random_nesting(small: Design, large: Design) -> Nesting | None:
    """How the model for the variance of ``small`` lies in that of ``large``; None if it does not.

    Both designs must have the same rows in the same order.
    """
    maps: list[tuple[int | None, Array]] = []
    used = set()
    for block in large.blocks:
        hits = [s for s, other in enumerate(small.blocks) if _same_levels(other, block)]
        if not hits:
            maps.append((None, np.zeros((len(block.names), 0))))
            continue
        own_columns, columns = (unscaled_columns(b) for b in (small.blocks[hits[0]], block))
        if block.structure.is_linear:
            A = _combination(own_columns, columns)
        else:
            A = by_term(small.blocks[hits[0]], own_columns, block, columns, _combination)
        if A is None:
            return None
        wide, seen = span(block.structure), _together(block)
        own = span(small.blocks[hits[0]].structure)
        if not curved_terms_hold(small.blocks[hits[0]], block, A):
            return None
        linear = np.where(curved_rows(block), 0.0, 1.0)
        seen = seen * np.outer(linear, linear)
        if not all(_in_span(A @ S @ A.T * seen, wide) for S in own):
            return None
        used.add(hits[0])
        maps.append((hits[0], A))
    if used != set(range(len(small.blocks))):
        return None
    parts = []
    for t, (block, (s, A)) in enumerate(zip(large.blocks, maps, strict=True)):
        inner = [] if s is None else [A @ S @ A.T for S in span(small.blocks[s].structure)]
        parts += _parts(t, block, inner)
    return Nesting(tuple(maps), tuple(parts))


def _same_levels(one: RandomBlock, two: RandomBlock) -> bool:
    """Whether two blocks divide the rows alike, their levels being correlated alike."""
    if is_related((one, two)):
        return has_same_levels(one, two)
    return same_partition(one.codes, two.codes)


def _together(block: RandomBlock) -> Array:
    """1 where two effects (q, q) occur in one level, else 0: their covariance is never seen."""
    present = np.zeros((block.n_levels, len(block.names)))
    for a in range(len(block.names)):
        present[block.codes[block.columns[:, a] != 0.0], a] = 1.0
    return np.asarray((present.T @ present > 0.0) * 1.0)


def _parts(t: int, block: RandomBlock, inner: list[Array]) -> list[ConePart]:
    """Free and one-sided directions of each term at a generic point of the smaller model."""
    out = []
    for number, (start, stop, structure) in enumerate(block.structure.terms):
        q = stop - start
        if block.structure.curve(number) is not None:
            none = np.zeros((0, q, q))
            out.append(ConePart(t, start, stop, none, np.zeros((0, q)), none))
            continue
        local = [S[start:stop, start:stop] for S in inner]
        free: list[Array] = []
        rays: list[Array] = []
        cone = np.zeros((0, q))
        if structure == "unstructured":
            total = sum((S @ S for S in local), np.zeros((q, q)))
            values, vectors = np.linalg.eigh(total)
            null = values <= 1e-12 * max(float(values[-1]), 1e-300)
            R, N = vectors[:, ~null], vectors[:, null]
            cone = N.T
            frame = np.concatenate([R, N], axis=1)
            k = R.shape[1]
            free = [
                frame @ S @ frame.T for S in _local_span("unstructured", q) if not np.any(S[k:, k:])
            ]
        else:
            for S in _local_span(structure, q):
                grown = any(abs(float(np.sum(S * other))) > 1e-12 for other in local)
                (free if grown else rays).append(S)
        empty = np.zeros((0, q, q))
        out.append(
            ConePart(
                t,
                start,
                stop,
                np.stack(free) if free else empty,
                cone,
                np.stack(rays) if rays else empty,
            )
        )
    return out
