r"""Levels that are correlated in a known way: animals of a pedigree, species of a tree, sites.

The random effects of a factor get the covariance ``sigma^2 A`` (with slopes ``A (x) G``) instead
of ``sigma^2 I``. A is kept by a root: ``A^-1 = R'R`` with R sparse (pedigrees), or ``A = CC'`` with
C dense (matrices that are given). ``u = R b = C^-1 b`` are independent, so that all that holds for
independent levels holds for u.
Source: Henderson 1976 (Biometrics 32:69) for ``A^-1``; Lange 2002, Mathematical and Statistical
Methods for Genetic Analysis, chapter 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg as sl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import SuperLU, splu

from multilevel.errors import DesignError

Array = NDArray[np.float64]

#: Largest connected part of a covariance matrix that is factorised as a dense matrix.
DENSE_LIMIT = 6000
_SYMMETRY = 1e-8
_ZERO = 1e-10


@dataclass(frozen=True)
class Relation:
    """The known covariance matrix A of the levels of a factor.

    Attributes
    ----------
    labels : (J,) labels of the levels.
    kind : where A comes from: ``"pedigree"``, ``"phylogeny"``, ``"covariance matrix"``...
    sentence : what A is, for people.
    log_det : log|A|; of a singular A the sum over its nonzero eigenvalues.
    diagonal : (J,) diagonal of A.
    root : (J, J) sparse R with ``A^-1 = R'R``, or None.
    spread : (J, r) dense C with ``A = CC'``, or None; r < J for a singular A.
    """

    labels: NDArray[Any]
    kind: str
    sentence: str
    log_det: float
    diagonal: Array
    root: sparse.csr_array | None = None
    spread: Array | None = None

    @property
    def n_levels(self) -> int:
        """J."""
        return len(self.labels)

    @property
    def is_singular(self) -> bool:
        """Whether some combination of the levels does not vary at all."""
        return self.spread is not None and self.spread.shape[1] < self.n_levels

    @cached_property
    def _solver(self) -> SuperLU:
        if self.root is None:
            raise DesignError("A root is needed.", "a dense matrix", "use spread")
        return splu(sparse.csc_matrix(self.root))

    def colour(self, u: Array) -> Array:
        """``C u``: correlated effects (J, k) from independent ones (r, k)."""
        if self.spread is not None:
            return np.asarray(self.spread @ u)
        return np.asarray(self._solver.solve(np.ascontiguousarray(u)))

    def combine(self, loads: Array) -> Array:
        """``C'x`` (r, k) for loadings x on the levels (J, k): the variance of x'b is its square."""
        if self.spread is not None:
            return np.asarray(self.spread.T @ loads)
        solver: Any = self._solver
        return np.asarray(solver.solve(np.ascontiguousarray(loads), "T"))

    def whiten(self, b: Array) -> Array:
        """``R b``: independent effects from correlated ones (J, k); needs a sparse root."""
        return np.asarray(self.sparse_root() @ b)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the factor, which can be made again."""
        return {k: v for k, v in self.__dict__.items() if k != "_solver"}

    def sparse_root(self) -> sparse.csr_array:
        """R with ``A^-1 = R'R``.

        Raises
        ------
        DesignError : a dense or singular matrix, for which no sparse root is kept.
        """
        if self.root is None:
            raise DesignError(
                "The sparse engine needs a relation with a sparse inverse.",
                f"a {self.kind} kept as a dense matrix",
                "leave engine out to have it chosen",
            )
        return self.root

    def dense_spread(self) -> Array:
        """C (J, r) with ``A = CC'``."""
        if self.spread is not None:
            return self.spread
        return self.colour(np.eye(self.n_levels))

    def matrix(self) -> Array:
        """A as a dense matrix (J, J)."""
        C = self.dense_spread()
        return C @ C.T


def check_labels(labels: Sequence[Any] | NDArray[Any], n: int, what: str) -> NDArray[Any]:
    """Labels as an object array (n,), each once.

    Raises
    ------
    DesignError : another number of labels, a label twice, a missing label.
    """
    listed = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(listed) != n:
        raise DesignError(
            f"A {what} needs one label for each row.", f"{len(listed)} labels for {n} rows",
            "pass labels= in the order of the rows",
        )  # fmt: skip
    seen: set[Any] = set()
    for label in listed:
        if label is None or label != label:
            raise DesignError(f"The labels of a {what} must not be missing.", repr(label),
                              "leave that row out")  # fmt: skip
        if label in seen:
            raise DesignError(f"Each label of a {what} may stand once.", f"{label!r} twice",
                              "leave one of them out")  # fmt: skip
        seen.add(label)
    out = np.empty(n, dtype=object)
    out[:] = listed
    return out


def _checked_matrix(matrix: Any, what: str) -> sparse.csc_array | Array:
    """A square, finite, symmetric matrix, sparse as given."""
    dense: Array | None = None if sparse.issparse(matrix) else np.asarray(matrix, np.float64)
    shape = np.shape(matrix) if dense is None else dense.shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
        raise DesignError(
            f"A {what} must be square, with two rows or more.",
            f"shape {shape}",
            "pass one row and one column per level",
        )
    M = sparse.csc_array(matrix if dense is None else dense, dtype=np.float64)
    if not np.all(np.isfinite(M.data)):
        raise DesignError(f"A {what} must be finite.", "a missing or infinite entry", "correct it")
    gap = sparse.coo_array(M - M.T)
    if gap.nnz:
        at = int(np.argmax(np.abs(gap.data)))
        worst = float(np.abs(gap.data[at]))
        if worst > _SYMMETRY * float(np.abs(M.data).max()):
            i, j = int(gap.row[at]), int(gap.col[at])
            raise DesignError(
                f"A {what} must be symmetric.",
                f"entries ({i}, {j}) and ({j}, {i}) differ by {worst:.3g}",
                "correct it",
            )
    if dense is not None:
        return np.asarray((dense + dense.T) / 2.0)
    return sparse.csc_array((M + M.T) * 0.5)


def _blocks(M: sparse.csc_array, what: str) -> list[NDArray[np.intp]]:
    """Levels of each connected part, small enough to be factorised."""
    count, member = connected_components(M, directed=False)
    order = np.argsort(member, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(member, minlength=count))[:-1])
    largest = max(len(part) for part in parts)
    if largest > DENSE_LIMIT:
        raise DesignError(
            f"A {what} is factorised for at most {DENSE_LIMIT} levels that hang together.",
            f"{largest} levels",
            "pass a pedigree, or a sparse inverse with precision=True",
        )
    return parts


def _not_positive(what: str, value: float) -> DesignError:
    return DesignError(
        f"A {what} must be positive definite.",
        f"an eigenvalue of {value:.3g}",
        "check how it was made: a correlation beyond 1, or distances that fit no space",
    )


def from_covariance(
    matrix: Any,
    labels: Sequence[Any] | NDArray[Any],
    *,
    kind: str = "covariance matrix",
    sentence: str = "",
) -> Relation:
    """A relation from the covariance matrix of the levels.

    Parameters
    ----------
    matrix : (J, J) symmetric, dense or sparse. Where eigenvalues are zero (clones, a genomic
        matrix of more animals than markers), those combinations of levels do not vary.
    labels : (J,) the levels, in the order of the rows.

    Raises
    ------
    DesignError : not square, symmetric, finite or positive semidefinite; labels that repeat.
    """
    M = _checked_matrix(matrix, kind)
    n = M.shape[0]
    names = check_labels(labels, n, kind)
    diagonal = np.asarray(M.diagonal(), dtype=np.float64)
    if diagonal.min() <= 0.0:
        at = int(np.argmin(diagonal))
        raise DesignError(f"Every level of a {kind} needs a positive variance.",
                          f"{diagonal[at]:.3g} for {names[at]!r}", "leave it out")  # fmt: skip
    pattern = sparse.csc_array(M)
    parts = _blocks(pattern, kind)
    if len(parts) == 1:
        dense = M.toarray() if sparse.issparse(M) else M
        C, log_det = _dense_root(dense, kind)
        return Relation(names, kind, sentence, log_det, diagonal, None, C)
    row, column, value = [], [], []
    log_det = 0.0
    by_row = sparse.csr_array(pattern)
    for part in parts:
        C, own = _dense_root(by_row[part][:, part].toarray(), kind)
        if C.shape[1] < len(part):
            whole, log_det = _dense_root(pattern.toarray(), kind)
            return Relation(names, kind, sentence, log_det, diagonal, None, whole)
        R = sl.solve_triangular(C, np.eye(len(part)), lower=True)
        i, j = np.tril_indices(len(part))
        row.append(part[i])
        column.append(part[j])
        value.append(R[i, j])
        log_det += own
    where = (np.concatenate(row), np.concatenate(column))
    root = sparse.csr_array((np.concatenate(value), where), shape=(n, n))
    return Relation(names, kind, sentence, log_det, diagonal, root, None)


def _dense_root(M: Array, what: str) -> tuple[Array, float]:
    """C with ``M = CC'`` (lower triangular, or of lower rank), and the log-determinant."""
    if len(M) > DENSE_LIMIT:
        raise DesignError(f"A dense {what} may have {DENSE_LIMIT} levels.", f"{len(M)}",
                          "pass a sparse matrix of separate families")  # fmt: skip
    scale = np.sqrt(np.diag(M))
    C, info = sl.lapack.dpotrf(M / np.outer(scale, scale), lower=1, clean=1)
    if info == 0 and float(np.diag(C).min()) ** 2 > _ZERO:
        C = scale[:, None] * C
        return C, 2.0 * float(np.log(np.diag(C)).sum())
    values, vectors = np.linalg.eigh(M)
    floor = _ZERO * float(values[-1])
    if values[0] < -10.0 * floor:
        raise _not_positive(what, float(values[0]))
    kept = values > floor
    return vectors[:, kept] * np.sqrt(values[kept]), float(np.log(values[kept]).sum())


def from_precision(
    matrix: Any,
    labels: Sequence[Any] | NDArray[Any],
    *,
    kind: str = "precision matrix",
    sentence: str = "",
) -> Relation:
    """A relation from the inverse of the covariance matrix of the levels.

    Parameters
    ----------
    matrix : (J, J) symmetric positive definite, dense or sparse.
    labels : (J,) the levels, in the order of the rows.

    Raises
    ------
    DesignError : not square, symmetric, finite or positive definite; labels that repeat.
    """
    P = sparse.csc_array(_checked_matrix(matrix, kind))
    n = P.shape[0]
    names = check_labels(labels, n, kind)
    try:
        factor = splu(
            sparse.csc_matrix(P),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError as error:
        raise _not_positive(kind, 0.0) from error
    D = factor.U.diagonal()
    # without pivoting, perm_r equals perm_c and P[order][:, order] = L D L'
    if D.min() <= 0.0 or not np.array_equal(factor.perm_r, factor.perm_c):
        raise _not_positive(kind, float(D.min()))
    order = factor.perm_c
    scaled = sparse.csr_array(factor.L.T).multiply(np.sqrt(D)[:, None])
    root = sparse.csr_array(sparse.csr_array(scaled)[:, order])
    diagonal = _inverse_diagonal(root)
    return Relation(names, kind, sentence, -float(np.log(D).sum()), diagonal, root, None)


def _inverse_diagonal(root: sparse.csr_array, batch: int = 256) -> Array:
    """Diagonal of ``(R'R)^-1``, column by column."""
    n = root.shape[0]
    solver = splu(sparse.csc_matrix(root.T))
    out = np.empty(n)
    for start in range(0, n, batch):
        stop = min(start + batch, n)
        unit = np.zeros((n, stop - start))
        unit[np.arange(start, stop), np.arange(stop - start)] = 1.0
        out[start:stop] = (solver.solve(unit) ** 2).sum(axis=0)
    return out
