r"""Random-effect covariance structures: linear maps ``theta -> Lambda``, ``Psi = Lambda Lambda'``.

All structures here are linear in ``theta``, so the objective is smooth and even across the
boundary of the parameter space and a singular optimum is reached exactly (see docs, numerics).

=====================  ============================================  =====================
structure              Lambda                                        parameters
=====================  ============================================  =====================
``unstructured``       lower triangle, free                          q (q + 1) / 2
``diagonal``           diagonal, free                                q
``compound_symmetry``  a (I - 11'/q) + b 11'/q  (so Psi has           2
                       eigenvalues a^2 and b^2: covariances may be
                       negative)
``identity``           a I (equal variances, no covariances)         1
=====================  ============================================  =====================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import ModelError

Array = NDArray[np.float64]
Structure = Literal["unstructured", "diagonal", "compound_symmetry", "identity"]
STRUCTURES: tuple[str, ...] = get_args(Structure)

#: How a structure is written in front of a random term: ``cs(1 + x | g)``.
FORMULA_NAMES: dict[str, Structure] = {
    "us": "unstructured",
    "un": "unstructured",
    "diag": "diagonal",
    "cs": "compound_symmetry",
    "id": "identity",
}


def basis(structure: Structure, q: int) -> Array:
    """Return ``E`` (r, q, q) with ``Lambda = sum_a theta_a E_a``.

    Raises
    ------
    ModelError : an unknown structure, or compound symmetry for fewer than two columns.
    """
    if structure == "unstructured":
        rows, cols = np.tril_indices(q)
        out = np.zeros((rows.size, q, q))
        out[np.arange(rows.size), rows, cols] = 1.0
        return out
    if structure == "diagonal":
        out = np.zeros((q, q, q))
        out[np.arange(q), np.arange(q), np.arange(q)] = 1.0
        return out
    if structure == "identity":
        return np.eye(q)[None]
    if structure == "compound_symmetry":
        if q < 2:
            raise ModelError(
                "Compound symmetry needs at least two random-effect columns.",
                f"a term with {q} column",
                "write the term without cs(...), or give it more columns",
            )
        mean = np.full((q, q), 1.0 / q)
        return np.stack([np.eye(q) - mean, mean])
    raise ModelError(
        "A covariance structure must be one of " + ", ".join(STRUCTURES) + ".",
        repr(structure),
        "choose one of these names",
    )


@dataclass(frozen=True)
class FactorMap:
    """The map of one grouping factor: block-diagonal over its terms, linear in ``theta``.

    Attributes
    ----------
    basis : (r, q, q).
    terms : per term ``(start, stop, structure)`` on the q columns.
    """

    basis: Array
    terms: tuple[tuple[int, int, Structure], ...]

    @property
    def n_parameters(self) -> int:
        """Number of parameters r."""
        return int(self.basis.shape[0])

    def factor(self, theta: Array) -> Array:
        """``Lambda`` (q, q)."""
        return np.tensordot(theta, self.basis, axes=1)

    def parameter_slices(self) -> list[slice]:
        """The slice of ``theta`` that belongs to each term."""
        out, at = [], 0
        for start, stop, structure in self.terms:
            size = basis(structure, stop - start).shape[0]
            out.append(slice(at, at + size))
            at += size
        return out


def factor_map(terms: tuple[tuple[int, Structure], ...]) -> FactorMap:
    """Build the map of a factor from its terms, each ``(number of columns, structure)``."""
    q = sum(width for width, _ in terms)
    pieces, placed, at = [], [], 0
    for width, structure in terms:
        local = basis(structure, width)
        whole = np.zeros((local.shape[0], q, q))
        whole[:, at : at + width, at : at + width] = local
        pieces.append(whole)
        placed.append((at, at + width, structure))
        at += width
    return FactorMap(np.concatenate(pieces), tuple(placed))


def parameters_from_covariance(mapping: FactorMap, Psi: Array) -> Array:
    """Return ``theta`` (r,) whose ``Psi`` is the given one, projected on each term's structure.

    Negative eigenvalues are set to zero; covariances that a structure does not have are ignored.
    """
    parts = []
    for start, stop, structure in mapping.terms:
        local = Psi[start:stop, start:stop]
        q = stop - start
        if structure == "diagonal":
            parts.append(np.sqrt(np.maximum(np.diag(local), 0.0)))
        elif structure == "identity":
            parts.append(np.sqrt(np.maximum([np.trace(local) / q], 0.0)))
        elif structure == "compound_symmetry":
            mean = float(local.sum()) / q
            rest = (float(np.trace(local)) - mean) / (q - 1)
            parts.append(np.sqrt(np.maximum([rest, mean], 0.0)))
        else:
            parts.append(lower_factor(local)[np.tril_indices(q)])
    return np.concatenate(parts)


def lower_factor(Psi: Array) -> Array:
    """Lower-triangular ``L`` with ``LL' = Psi`` for a symmetric positive semi-definite matrix.

    Works for singular matrices too (QR of the symmetric root); the diagonal is not negative.
    """
    values, vectors = np.linalg.eigh((Psi + Psi.T) / 2.0)
    return triangular(vectors * np.sqrt(np.maximum(values, 0.0)))


def triangular(factor: Array) -> Array:
    """Lower-triangular ``L`` with ``LL' = FF'``, the diagonal not negative.

    Forms no square, so a rank that ``F`` lacks is lacking in ``L`` to rounding.
    """
    R: Array = np.linalg.qr(factor.T)[1]
    signs = np.where(np.diag(R) < 0.0, -1.0, 1.0)
    return np.asarray(np.tril((R * signs[:, None]).T))
