"""Compiled formula parts to columns of numbers, by formulaic.

Formulaic does the algebra of terms and the encodings. It sees only the columns that a part names
and the functions of the fixed list; ``numpy`` and the built-ins are not in reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.errors import FormulaicError
from formulaic.materializers.pandas import PandasMaterializer
from formulaic.transforms import TRANSFORMS
from formulaic.utils.layered_mapping import LayeredMapping
from formulaic.utils.stateful_transforms import stateful_eval
from interface_meta import override
from numpy.typing import NDArray

from multilevel.design.recipe import LearntColumns
from multilevel.design.variables import Positions, Values, row_words
from multilevel.errors import DesignError
from multilevel.model.formula.compile import Compiled, formula_of
from multilevel.model.formula.functions import CODERS

Array = NDArray[np.float64]

_NUMPY = ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan")
_NUMPY_MORE = ("floor", "ceil", "round", "sign")
_OTHERS = ("I", "poly", "bs", "cr", "cc", "contr")
_CONTRASTS = ("Treatment", "Sum", "Helmert", "Poly", "Diff")


def _category(data: Any, contrasts: Any = None, *, levels: Any = None) -> Any:
    """Formulaic's ``C``, which would turn values outside ``levels`` into missing ones."""
    if levels is not None:
        series = pd.Series(data)
        outside = series[~series.isin(list(levels))]
        if len(outside):
            raise ValueError(f"levels= does not list {outside.iloc[0]!r}")
    return TRANSFORMS["C"](data, contrasts, levels=levels)


_FUNCTIONS: dict[str, Any] = {
    **{name: getattr(np, name) for name in (*_NUMPY, *_NUMPY_MORE)},
    **{name: TRANSFORMS[name] for name in (*_OTHERS, *_CONTRASTS)},
    "C": _category,
    "factor": _category,
}
_TREATMENT = "{name}[T.{field}]"
_MAX_LEVELS = 1000
_EVALUATION = (FormulaicError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


def as_number(values: Values) -> Any:
    """Numbers and flags as float64; categories stay, as a Series."""
    if isinstance(values, pd.Categorical):
        return pd.Series(values)
    return values.astype(np.float64, copy=False)


def as_category(values: Values) -> Any:
    """Values for ``C()``: whole floats as integers, so that labels read 2010, not 2010.0."""
    if isinstance(values, pd.Categorical):
        return pd.Series(values)
    if values.dtype.kind == "f" and len(values) and bool(np.all(values == np.floor(values))):
        return pd.Series(values.astype(np.int64))
    return pd.Series(values)


class _Columns(PandasMaterializer):  # type: ignore[misc]
    """Formulaic's materialiser over plain arrays, with readable names and no copies."""

    display: Mapping[str, str]
    rows: Positions | None
    n: int

    @override
    def _init(self) -> None:
        self.display = self.params.pop("display")
        self.rows = self.params.pop("rows")
        self.n = self.params.pop("n")

    @property
    @override
    def nrows(self) -> int:
        return self.n

    @override
    def _lookup(self, name: str) -> tuple[Any, set[Any]]:
        values = self.data[name]
        if not isinstance(values, pd.Categorical) and values.dtype.kind == "b":
            return pd.Series(values).astype("category"), set()
        return as_number(values), set()

    @override
    def _evaluate(self, expr: str, metadata: Any, spec: Any) -> tuple[Any, set[Any]]:
        convert = as_category if expr.partition("(")[0] in CODERS else as_number
        columns = {name: convert(values) for name, values in self.data.items()}
        result = stateful_eval(
            expr, LayeredMapping(columns, _FUNCTIONS), {expr: metadata}, spec.transform_state, spec
        )
        return result, set()

    @override
    def _encode_evaled_factor(
        self, factor: Any, spec: Any, drop_rows: Sequence[int], reduced_rank: bool = False
    ) -> dict[str, Any]:
        is_category = factor.metadata.kind.value == "categorical"
        shown = self.display.get(factor.expr, factor.expr)
        known = spec.encoder_state.get(factor.expr, (None, {}))[1].get("categories")
        if is_category and known is not None:
            self._check_known(factor.values, known, shown)
        encoded = super()._encode_evaled_factor(factor, spec, drop_rows, reduced_rank=reduced_rank)
        if is_category and known is None:
            state = spec.encoder_state.get(factor.expr, (None, {}))[1]
            _check_count(state.get("categories", ()), shown)
        return dict(encoded)

    def _check_known(self, values: Any, known: Sequence[Any], shown: str) -> None:
        """Refuse categories that the encoding has not learnt."""
        series = pd.Series(getattr(values, "__wrapped__", values))
        new = np.flatnonzero(~series.isin(list(known)).to_numpy())
        if len(new):
            where = new if self.rows is None else self.rows[new]
            level = series.iloc[int(new[0])]
            raise DesignError(
                "A categorical predictor may only take the categories that the model knows.",
                f"{shown} is {level!r} in {row_words(where)}; known are "
                + ", ".join(map(str, list(known)[:10])),
                "correct these rows or leave them out",
            )

    @override
    def _flatten_encoded_evaled_factor(self, name: str, values: Any) -> dict[str, Any]:
        shown = self.display.get(name, name)
        if isinstance(values, dict) and hasattr(values, "__formulaic_metadata__"):
            if values.__formulaic_metadata__.get_format() == _TREATMENT:
                return {f"{shown}[{field}]": v for field, v in values.items()}
            return dict(super()._flatten_encoded_evaled_factor(shown, values))
        return dict(super()._flatten_encoded_evaled_factor(shown, values))

    @override
    def _get_columns_for_term(
        self, factors: list[dict[str, Any]], spec: Any, scale: float = 1
    ) -> dict[str, Any]:
        if len(factors) == 1 and scale == 1:
            return factors[0]
        return dict(super()._get_columns_for_term(factors, spec, scale=scale))

    @override
    def _combine_columns(
        self, cols: Sequence[tuple[str, Any]], spec: Any, drop_rows: Sequence[int]
    ) -> Array:
        out = np.empty((self.n, len(cols)), order="F")
        for index, (name, values) in enumerate(cols):
            column = np.asarray(values)
            if column.dtype.kind not in "iufb":
                raise DesignError("Every column of a model must be numbers.", name, "")
            out[:, index] = column
        return out


def _check_count(categories: Sequence[Any], shown: str) -> None:
    """Refuse one category, and far too many."""
    if len(categories) < 2:
        only = ", ".join(map(str, categories))
        raise DesignError(
            "A categorical predictor needs at least two categories in the analysed rows.",
            f"{shown} is always {only!r}",
            "leave it out of the model",
        )
    if len(categories) > _MAX_LEVELS:
        raise DesignError(
            f"A categorical predictor may have at most {_MAX_LEVELS} categories.",
            f"{shown} has {len(categories)}",
            f"write a random term (1 | {shown}), or turn the column into numbers",
        )


def learn_columns(
    compiled: Compiled, columns: Mapping[str, Values], n: int, rows: Positions | None
) -> tuple[Array, LearntColumns]:
    """Encode one sum of terms and keep what was learnt.

    Parameters
    ----------
    compiled : the sum.
    columns : ``{identifier: values}`` of length n, complete.
    n : number of rows.
    rows : their positions in the table (for messages), or None.

    Returns
    -------
    matrix : (n, p), Fortran order.
    learnt : replays through `replay_columns`.

    Raises
    ------
    DesignError : a part that cannot be evaluated, or does not give finite numbers.
    """
    spec = ModelSpec.from_spec(formula_of(compiled.text), output="numpy", na_action="ignore")
    matrix = _materialise(spec, compiled, columns, n, rows)
    learnt_spec = matrix.model_spec
    names = tuple("(Intercept)" if c == "Intercept" else c for c in learnt_spec.column_names)
    plain = np.asarray(matrix.__wrapped__)
    _check_finite(plain, names, rows)
    return plain, LearntColumns(compiled, learnt_spec, names)


def replay_columns(
    learnt: LearntColumns, columns: Mapping[str, Values], n: int, rows: Positions | None
) -> Array:
    """Encode new rows exactly as `learn_columns` did; (n, p), Fortran order.

    Raises
    ------
    DesignError : unknown categories, values outside a spline's range, other kinds of values.
    """
    matrix = _materialise(learnt.spec, learnt.compiled, columns, n, rows)
    plain = np.asarray(matrix.__wrapped__)
    _check_finite(plain, learnt.names, rows)
    return plain


def _materialise(
    spec: Any, compiled: Compiled, columns: Mapping[str, Values], n: int, rows: Positions | None
) -> Any:
    display = dict(compiled.display)
    materialiser = _Columns(dict(columns), display=display, rows=rows, n=n)
    try:
        # log(0) and its products are refused by name afterwards
        with np.errstate(all="ignore"):
            return materialiser.get_model_matrix(spec)
    except _EVALUATION as error:
        raise _evaluation_error(display, error) from error


def _evaluation_error(display: Mapping[str, str], error: Exception) -> DesignError:
    """Say what could not be evaluated, in the user's names."""
    reason = str(error)
    for written, shown in sorted(display.items(), key=lambda pair: -len(pair[0])):
        reason = reason.replace(f"`{written}`", f"`{shown}`")
    shown = ", ".join(dict.fromkeys(display.values()))
    return DesignError(
        "Every term of the formula must give a number for each row.",
        f"{reason} (terms: {shown})",
        "check that functions get numeric columns and sensible arguments",
    )


def evaluate_number(
    compiled: Compiled, columns: Mapping[str, Values], n: int, rows: Positions | None
) -> Array:
    """Evaluate one expression to (n,) finite numbers.

    Raises
    ------
    DesignError : an expression that cannot be evaluated or is not a finite number in every row.
    """
    values = evaluate_expression(compiled.text, columns, n, dict(compiled.display))
    shown = dict(compiled.display).get(compiled.text, compiled.text)
    _check_finite(values[:, None], (shown,), rows)
    return values


def evaluate_expression(
    text: str, columns: Mapping[str, Values], n: int, display: Mapping[str, str]
) -> Array:
    """Evaluate Python text over columns to (n,) numbers, not necessarily finite."""
    shown = display.get(text, text)
    numbers = {name: as_number(values) for name, values in columns.items()}
    try:
        with np.errstate(all="ignore"):
            found = stateful_eval(text, LayeredMapping(numbers, _FUNCTIONS), None, None, None)
            values = np.asarray(found, dtype=np.float64)
    except _EVALUATION as error:
        raise DesignError(
            "An expression of numbers must give a number for each row.",
            f"{shown}: {error}",
            "check that it uses numeric columns",
        ) from error
    if values.shape != (n,):
        raise DesignError(
            "An expression must give one number for each row.",
            f"{shown} has shape {values.shape} for {n} rows",
            "use functions such as log() and arithmetic only",
        )
    return values


def _check_finite(matrix: Array, names: Sequence[str], rows: Positions | None) -> None:
    """Refuse columns with infinite or undefined values; one pass where all is well."""
    if not matrix.size:
        return
    with np.errstate(all="ignore"):
        bad = np.flatnonzero(~np.isfinite(matrix.sum(axis=0)))
    for index in bad.tolist():
        lost = np.flatnonzero(~np.isfinite(matrix[:, index]))
        if len(lost):
            where = lost if rows is None else rows[lost]
            raise DesignError(
                "Every column of a model must be a finite number in each row.",
                f"{names[index]} is {matrix[lost[0], index]} in {row_words(where)}",
                "correct these rows, set them to missing, or change the expression",
            )
