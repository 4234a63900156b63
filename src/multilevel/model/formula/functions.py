"""The functions that a formula may use; nothing else is ever evaluated."""

from __future__ import annotations

from typing import Literal

CentringKind = Literal["within", "between", "center", "scale"]

#: One number in, one number out, row by row.
ELEMENTWISE: frozenset[str] = frozenset(
    {"log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan"}
    | {"floor", "ceil", "round", "sign", "I"}
)
#: Mark a column as categorical.
CODERS: frozenset[str] = frozenset({"C", "factor"})
#: One column in, several out; learn from the data.
BASES: frozenset[str] = frozenset({"poly", "bs", "cr", "cc"})
#: Contrasts, as an argument of ``C``: ``contr.sum`` or ``Sum``.
CONTRASTS: frozenset[str] = frozenset({"treatment", "sum", "helmert", "poly", "SAS", "diff"})
CONTRAST_CALLS: frozenset[str] = frozenset({"Treatment", "Sum", "Helmert", "Poly", "Diff"})
#: Split or shift a variable; learn means from the data.
CENTRING: dict[str, CentringKind] = {
    "within": "within",
    "between": "between",
    "center": "center",
    "scale": "scale",
}

FUNCTIONS: frozenset[str] = ELEMENTWISE | CODERS | BASES | frozenset(CENTRING)

#: Left-hand sides of two columns: successes and failures; lower and upper bound.
RESPONSE_PAIRS: frozenset[str] = frozenset({"cbind", "interval"})

#: Names that R, Stata or patsy users may try, and what to write here.
INSTEAD: dict[str, str] = {
    "cs": "cs() is a covariance structure, cs(1 + x | g); for a cubic spline write cr(x, df=4)",
    "ns": "write cr(x, df=4)",
    "s": "write bs(x, df=5) or cr(x, df=5)",
    "as.factor": "write factor(x)",
    "cbind": "cbind(successes, failures) stands alone, left of the ~",
    "interval": "interval(lower, upper) stands alone, left of the ~",
    "lag": "make the lagged column within each group before fitting",
    "ifelse": "make the column before fitting",
    "Q": "put the name in backticks",
    "standardize": "write scale(x)",
    "ln": "write log(x)",
    "cut": "make the column before fitting",
}
