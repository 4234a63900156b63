r"""Random-effect covariance structures: maps ``theta -> Lambda``, ``Psi = Lambda Lambda'``.

Most are linear in ``theta``, so the objective is smooth and even across the boundary of the
parameter space and a singular optimum is reached exactly (see docs, numerics). Those of
``curves`` are not: ask a map for ``factor(theta)`` and ``slopes(theta)``, never for its basis.

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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import ModelError
from multilevel.model.covariance.curves import CURVED, Curve

Array = NDArray[np.float64]
Structure = Literal[
    "unstructured", "diagonal", "compound_symmetry", "identity",
    "ar1", "arh1", "arma11", "toep", "toeph", "csh", "car1", "exp", "gau", "sph", "fa", "rr",
]  # fmt: skip
STRUCTURES: tuple[str, ...] = get_args(Structure)

#: How a structure is written in front of a random term: ``cs(1 + x | g)``.
FORMULA_NAMES: dict[str, Structure] = {
    "us": "unstructured",
    "un": "unstructured",
    "diag": "diagonal",
    "cs": "compound_symmetry",
    "id": "identity",
    "ar1": "ar1",
    "arh1": "arh1",
    "hetar1": "arh1",
    "arma11": "arma11",
    "toep": "toep",
    "toeph": "toeph",
    "csh": "csh",
    "car1": "car1",
    "exp": "exp",
    "gau": "gau",
    "sph": "sph",
    "fa": "fa",
    "rr": "rr",
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
    if structure in CURVED:
        raise ModelError(
            "This structure is not linear in its parameters.",
            structure,
            "ask its map for factor(theta) and slopes(theta)",
        )
    raise ModelError(
        "A covariance structure must be one of " + ", ".join(STRUCTURES) + ".",
        repr(structure),
        "choose one of these names",
    )


@dataclass(frozen=True)
class FactorMap:
    """The map of one grouping factor: block-diagonal over its terms.

    Attributes
    ----------
    basis : (r, q, q); ``Lambda = sum_a theta_a E_a`` over linear parameters, NaN in the rows of
        parameters of curves (whoever needs derivatives asks for ``slopes``).
    terms : per term ``(start, stop, structure)`` on the q columns.
    curves : per term its nonlinear map, or None; empty if all terms are linear.
    sizes : parameters per term; empty: as its structure has.
    """

    basis: Array
    terms: tuple[tuple[int, int, Structure], ...]
    curves: tuple[Curve | None, ...] = ()
    sizes: tuple[int, ...] = ()

    @property
    def n_parameters(self) -> int:
        """Number of parameters r."""
        return int(self.basis.shape[0])

    @property
    def width(self) -> int:
        """Number of columns q."""
        return int(self.basis.shape[1])

    @property
    def is_linear(self) -> bool:
        """Whether ``Lambda`` is linear in all parameters."""
        return not any(self.curves)

    def factor(self, theta: Array) -> Array:
        """``Lambda`` (q, q)."""
        if self.is_linear:
            return np.tensordot(theta, self.basis, axes=1)
        out = np.zeros((self.width, self.width))
        for start, stop, s, curve in self._pieces():
            at = slice(start, stop)
            out[at, at] = (
                np.tensordot(theta[s], self.basis[s, at, at], axes=1)
                if curve is None
                else curve.factor(theta[s])
            )
        return out

    def slopes(self, theta: Array) -> Array:
        """``dLambda/dtheta`` (r, q, q) at ``theta``; the basis itself for a linear map."""
        if self.is_linear:
            return self.basis
        out = np.where(np.isnan(self.basis), 0.0, self.basis)
        for start, stop, s, curve in self._pieces():
            if curve is not None:
                out[s, start:stop, start:stop] = curve.slopes(theta[s])
        return out

    def covariance_slopes(self, theta: Array, L: Array) -> Array:
        """``dPsi/dtheta`` (r, q, q) at ``theta``, where ``Lambda`` is ``L``."""
        half = (self.basis if self.is_linear else np.nan_to_num(self.basis)) @ L.T
        out = half + half.transpose(0, 2, 1)
        for start, stop, s, curve in self._pieces() if self.curves else ():
            if curve is not None:
                out[s, start:stop, start:stop] = curve.covariance_slopes(theta[s])
        return np.asarray(out)

    def bends(self, theta: Array, Q: Array) -> Array:
        """``<Q, d2Psi/dtheta_a dtheta_b>`` (r, r) for a symmetric Q (q, q)."""
        basis = self.basis if self.is_linear else np.nan_to_num(self.basis)
        E = basis.reshape(self.n_parameters, -1)
        out = np.asarray(2.0 * E @ (Q @ basis).reshape(self.n_parameters, -1).T)
        for start, stop, s, curve in self._pieces() if self.curves else ():
            if curve is not None:
                out[s, s] = curve.bends(theta[s], Q[start:stop, start:stop])
        return out

    def scales(self) -> NDArray[np.bool_]:
        """Which parameters are standard deviations with a sign: zero hides their gradient."""
        out = np.any(np.diagonal(self.basis, axis1=1, axis2=2) != 0.0, axis=1)
        for _, _, s, curve in self._pieces() if self.curves else ():
            if curve is not None:
                out[s] = np.arange(curve.n_parameters) < curve.signed
        return np.asarray(out)

    def curve_labels(self) -> dict[int, str]:
        """Parameters of nonlinear terms by position: ``"ar1 Days: x1"`` (unconstrained)."""
        out: dict[int, str] = {}
        for _, _, s, curve in self._pieces() if self.curves else ():
            if curve is not None:
                labels = (f"{curve.structure} {curve.stem}: {x}" for x in curve.working_names())
                out.update(zip(range(s.start, s.stop), labels, strict=True))
        return out

    def curve(self, term: int) -> Curve | None:
        """The nonlinear map of a term, or None."""
        return self.curves[term] if self.curves else None

    def _pieces(self) -> list[tuple[int, int, slice, Curve | None]]:
        """Per term: its columns, its parameters, its nonlinear map."""
        curves = self.curves or (None,) * len(self.terms)
        return [
            (start, stop, s, curve)
            for (start, stop, _), s, curve in zip(
                self.terms, self.parameter_slices(), curves, strict=True
            )
        ]

    def parameter_slices(self) -> list[slice]:
        """The slice of ``theta`` that belongs to each term."""
        out, at = [], 0
        for number, (start, stop, structure) in enumerate(self.terms):
            curve = self.curve(number)
            if self.sizes:
                size = self.sizes[number]
            elif curve is not None:
                size = curve.n_parameters
            else:
                size = basis(structure, stop - start).shape[0]
            out.append(slice(at, at + size))
            at += size
        return out


def factor_map(
    terms: Sequence[tuple[int, Structure]], curves: Sequence[Curve | None] = ()
) -> FactorMap:
    """Build the map of a factor from its terms, each ``(number of columns, structure)``.

    ``curves`` : per term its nonlinear map, or None.
    """
    q = sum(width for width, _ in terms)
    pieces, placed, at = [], [], 0
    for number, (width, structure) in enumerate(terms):
        curve = curves[number] if curves else None
        if curve is not None:
            whole = np.full((curve.n_parameters, q, q), np.nan)
        else:
            local = basis(structure, width)
            whole = np.zeros((local.shape[0], q, q))
            whole[:, at : at + width, at : at + width] = local
        pieces.append(whole)
        placed.append((at, at + width, structure))
        at += width
    return FactorMap(np.concatenate(pieces), tuple(placed), tuple(curves) if any(curves) else ())


def joined_maps(maps: Sequence[FactorMap], names: Sequence[str]) -> FactorMap:
    """The terms of several maps side by side, independent of each other; ``names`` of all columns
    together."""
    shapes, curves, at = [], list[Curve | None](), 0
    for m in maps:
        for k, (start, stop, structure) in enumerate(m.terms):
            curve, labels = m.curve(k), tuple(names[at + start : at + stop])
            shapes.append((stop - start, structure))
            curves.append(None if curve is None else replace(curve, labels=labels))
        at += m.width
    return factor_map(shapes, curves)


def parameters_from_covariance(mapping: FactorMap, Psi: Array) -> Array:
    """Return ``theta`` (r,) whose ``Psi`` is the given one, projected on each term's structure.

    Negative eigenvalues are set to zero; covariances that a structure does not have are ignored.
    """
    parts = []
    for number, (start, stop, structure) in enumerate(mapping.terms):
        local = Psi[start:stop, start:stop]
        q = stop - start
        curve = mapping.curve(number)
        if curve is not None:
            parts.append(curve.parameters(local))
        elif structure == "diagonal":
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
