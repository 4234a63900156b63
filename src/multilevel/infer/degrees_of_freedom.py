"""Which denominator degrees of freedom? The names, the default, and what a method offers.

Source of the choice: Satterthwaite resembles between-within where that is defined and serves any
design; Kenward-Roger also corrects the standard errors and is best in small samples (Li & Redden
2015). Under ML variances are too small for t tests to be exact, so ML fits print z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.model.specification import Method

Array = NDArray[np.float64]
DfMethod = Literal[
    "satterthwaite", "kenward-roger", "between-within", "containment", "residual", "none"
]
DF_METHODS: tuple[str, ...] = get_args(DfMethod)
DF_NAMES: dict[DfMethod, str] = {
    "satterthwaite": "Satterthwaite",
    "kenward-roger": "Kenward-Roger",
    "between-within": "between-within",
    "containment": "containment",
    "residual": "residual",
    "none": "infinite (z tests)",
}
#: Above this, t and z tests agree to three digits of any p-value in use.
LARGE_DF = 1e4


@dataclass(frozen=True)
class JointStatistic:
    """A multi-row test: ``statistic`` (F, or chi-square where ``df`` is infinite).

    ``df_num`` is the rank of the hypothesis, ``df`` the denominator degrees of freedom.
    """

    statistic: float
    df_num: int
    df: float


class FixedEffects(Protocol):
    """What tests need of a fit, or of one part of a generalized fit.

    Attributes
    ----------
    beta, vcov_beta : (p,) estimates and (p, p) their covariance.
    n_fixed : p.
    method : the estimator.
    """

    @property
    def beta(self) -> Array:
        """Estimates (p,)."""
        ...

    @property
    def vcov_beta(self) -> Array:
        """Their covariance (p, p)."""
        ...

    @property
    def n_fixed(self) -> int:
        """p."""
        ...

    @property
    def method(self) -> Method:
        """The estimator."""
        ...


class DfApproach(Protocol):
    """What every method offers; ``L`` is (k, p) on the user's fixed effects.

    Attributes
    ----------
    method : its name.
    vcov : (p, p) covariance of the fixed effects that goes with it.
    notes : what the reader should know, as sentences.
    """

    @property
    def method(self) -> DfMethod:
        """The name of the method."""
        ...

    @property
    def vcov(self) -> Array:
        """The covariance of the fixed effects (p, p)."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the reader."""
        ...

    def row_df(self, L: Array) -> Array:
        """Denominator degrees of freedom of each row, (k,)."""
        ...

    def joint(self, L: Array, difference: Array) -> JointStatistic:
        """Test ``L beta = rhs`` jointly; ``difference`` (k,) is ``L beta_hat - rhs``."""
        ...


def check_df(df: str) -> DfMethod:
    """Return the method's name, or say which are allowed (``InferenceError``)."""
    lowered = str(df).lower().replace("_", "-")
    for name in DF_NAMES:
        if lowered == name:
            return name
    raise InferenceError(
        "df must be one of " + ", ".join(map(repr, DF_METHODS)) + ".",
        f"df={df!r}",
        "write df='satterthwaite', or leave df out",
    )


def default_df(method: Method) -> DfMethod:
    """Satterthwaite under REML, none (z) under ML."""
    return "satterthwaite" if method == "reml" else "none"


def method_sentence(approach: DfApproach, method: Method, was_default: bool) -> str:
    """Which tests these are and why, in one or two plain sentences."""
    name = approach.method
    if name == "none":
        text = "Tests are z and chi-square tests (infinite denominator degrees of freedom)"
        if was_default and method == "ml":
            return (
                text + ", the default under ML; write df='satterthwaite' for t tests, or fit by"
                " REML."
            )
        return text + "."
    text = f"Tests are t and F tests with {DF_NAMES[name]} degrees of freedom"
    if was_default:
        text += ", the default under REML"
    return text + "."


def independent_rows(L: Array, difference: Array, vcov: Array) -> tuple[Array, Array, Array]:
    """Orthogonal equivalents of the rows of a hypothesis.

    Returns ``(rows, differences, variances)``: rotated rows (l, p) that are uncorrelated under
    ``vcov``, with l the rank of ``L``.

    Raises
    ------
    InferenceError : no row, or rows that contradict one another.
    """
    scale = np.sqrt(np.maximum(np.einsum("kp,pq,kq->k", L, vcov, L), 0.0))
    used = scale > 0.0
    if not used.any():
        raise InferenceError(
            "A hypothesis must involve a fixed effect.",
            "rows of zeros only",
            "name a fixed effect with a coefficient that is not zero",
        )
    if np.any(np.abs(difference[~used]) > 0.0):
        raise _contradiction()
    rows, gaps = L[used] / scale[used, None], difference[used] / scale[used]
    S = rows @ vcov @ rows.T
    values, vectors = np.linalg.eigh((S + S.T) / 2.0)
    kept = values > 1e-10 * float(values[-1])
    rotated = vectors.T @ gaps
    if np.any(np.abs(rotated[~kept]) > 1e-6 * (1.0 + float(np.abs(gaps).max()))):
        raise _contradiction()
    return vectors[:, kept].T @ rows, rotated[kept], values[kept]


def _contradiction() -> InferenceError:
    return InferenceError(
        "The rows of a hypothesis must not contradict one another.",
        "rows whose left sides are dependent, with right sides that are not",
        "drop the row that repeats others",
    )
