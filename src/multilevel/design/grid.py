"""Fixed-effect columns at values of the predictors that the caller chooses.

Unlike ``replay``, which lays the recipe over a table, a grid treats ``within(x, g)`` and
``between(x, g)`` as predictors of their own, so that one can be moved while the other is held.
``center(x)`` and ``scale(x)`` follow ``x``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.encode import evaluate_expression, replay_columns
from multilevel.design.recipe import LearntCentring, Recipe
from multilevel.design.records import Design
from multilevel.design.variables import Values
from multilevel.errors import DesignError
from multilevel.model.formula.compile import Compiled

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GridVariable:
    """One predictor that can be set.

    Attributes
    ----------
    name : column of the table, or the text of a ``within``/``between`` call.
    categories : its categories in the order of the encoding, first is the reference; empty for
        a number.
    observed : (n,) its values in the analysed rows, where the design still holds them.
    default : where it is held if not set: 0, or 1 inside a function, or the reference category.
    """

    name: str
    categories: tuple[Any, ...]
    observed: Array | None
    default: Any

    @property
    def is_category(self) -> bool:
        """Whether it takes categories rather than numbers."""
        return bool(self.categories)


class Grid:
    """The fixed part of a design as a function of its predictors.

    Parameters
    ----------
    design : from ``build_design``.

    Attributes
    ----------
    variables : ``{name: GridVariable}``.
    """

    def __init__(self, design: Design) -> None:
        self.design = design
        recipe: Recipe = design.recipe
        self._recipe = recipe
        compiled = recipe.fixed.compiled
        self._columns = dict(compiled.columns)
        self._calls = dict(compiled.centring)
        self._learnt: dict[str, LearntCentring] = {c.call.text: c for c in recipe.centring}
        self._terms = [[f.expr for f in term.factors] for term in recipe.fixed.spec.terms]
        names: dict[str, None] = dict.fromkeys(self._columns.values())
        for call in self._calls.values():
            if call.factors:
                names[call.text] = None
            else:
                names |= dict.fromkeys(column for _, column in call.columns)
        self.variables = {name: self._variable(name) for name in names}

    def find(self, name: str) -> str:
        """The predictor that a written name means; ``within`` may stand for the one such call.

        Raises
        ------
        DesignError : no such predictor in the fixed part.
        """
        if name in self.variables:
            return name
        plain = re.sub(r"\s", "", name)
        found = [known for known in self.variables if re.sub(r"\s", "", known) == plain]
        found = found or [known for known in self.variables if known.startswith(f"{plain}(")]
        if len(found) == 1:
            return found[0]
        raise DesignError(
            "The predictor must be in the fixed part of the model.",
            f"{name!r}; predictors are {', '.join(self.variables) or 'none'}",
            "name one of these",
        )

    def companions(self, name: str) -> list[str]:
        """Predictors that share a term with ``name``, in the order of the model."""
        out: dict[str, None] = {}
        for factors in self._terms:
            used = [v for expr in factors for v in self._used(expr)]
            if name in used:
                out |= dict.fromkeys(v for v in used if v != name)
        return list(out)

    def rows(self, values: Mapping[str, Sequence[Any]]) -> Array:
        """Fixed-effect columns (k, p) at k points.

        Parameters
        ----------
        values : ``{predictor: k values}``; predictors that are not named are held at their
            default, which does not matter for differences in predictors they do not share a term
            with.

        Raises
        ------
        DesignError : an unknown predictor or category, or a value where a term is not finite.
        """
        columns, k = self._filled(values, self._recipe.fixed.compiled)
        X = replay_columns(self._recipe.fixed, columns, k, None)
        return np.asarray(X[:, list(self._recipe.kept_columns)])

    def random_rows(self, values: Mapping[str, Sequence[Any]]) -> tuple[Array, ...]:
        """Random-effect columns (k, q) of each block at k points; ``values`` as in ``rows``.

        Raises
        ------
        DesignError : see ``rows``; a predictor that is in a random term only.
        """
        out = []
        for block in self._recipe.blocks:
            pieces = []
            for term in block.terms:
                columns, k = self._filled(values, term.compiled)
                pieces.append(np.asarray(replay_columns(term, columns, k, None)))
            out.append(np.hstack(pieces))
        return tuple(out)

    def _filled(
        self, values: Mapping[str, Sequence[Any]], compiled: Compiled
    ) -> tuple[dict[str, Values], int]:
        """Everything that one sum of terms needs, by identifier, and the number of points."""
        chosen = {self.find(name): list(column) for name, column in values.items()}
        k = max((len(column) for column in chosen.values()), default=1)

        def filled(name: str) -> Values:
            variable = self.variables[self.find(name)]
            return self._values(variable, chosen.get(variable.name, [variable.default] * k))

        columns: dict[str, Values] = {i: filled(name) for i, name in compiled.columns}
        for identifier, call in compiled.centring:
            if call.factors:
                columns[identifier] = filled(call.text)
                continue
            inside = {i: filled(name) for i, name in call.columns}
            learnt = self._learnt[call.text]
            x = evaluate_expression(call.expression, inside, k, {call.expression: call.shown})
            columns[identifier] = (x - learnt.location) / learnt.spread
        return columns, k

    def _used(self, expr: str) -> list[str]:
        """Predictors in one factor of a term."""
        out: list[str] = []
        for word in re.findall(r"[^\W\d]\w*", expr):
            if word in self._columns:
                out.append(self._columns[word])
            elif word in self._calls:
                call = self._calls[word]
                out += [call.text] if call.factors else [column for _, column in call.columns]
        return out

    def _variable(self, name: str) -> GridVariable:
        state: dict[str, Any] = self._recipe.fixed.spec.encoder_state
        categories: tuple[Any, ...] = ()
        is_transformed = False
        for expr, (_, known) in state.items():
            if name not in self._used(expr):
                continue
            if "categories" in known:
                categories = tuple(known["categories"])
            elif expr not in self._columns and expr not in self._calls:
                is_transformed = True
        if categories:
            return GridVariable(name, categories, None, categories[0])
        return GridVariable(name, (), self._observed(name), 1.0 if is_transformed else 0.0)

    def _observed(self, name: str) -> Array | None:
        """Values of a predictor in the analysed rows, from its own column where there is one."""
        names = self.design.names
        if name in names:
            return np.asarray(self.design.X[:, names.index(name)])
        for text, learnt in self._learnt.items():
            call = learnt.call
            if not call.factors and call.shown == name and text in names:
                x = self.design.X[:, names.index(text)]
                return np.asarray(x * learnt.spread + learnt.location)
        return None

    def _values(self, variable: GridVariable, values: Sequence[Any]) -> Values:
        if not variable.is_category:
            try:
                return np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise DesignError(
                    "A numeric predictor must be set to numbers.",
                    f"{variable.name} = {values!r}",
                    "give numbers",
                ) from error
        lost = [value for value in values if value not in variable.categories]
        if lost:
            raise DesignError(
                "A categorical predictor may only take the categories that the model knows.",
                f"{variable.name} = {lost[0]!r}; known are "
                + ", ".join(map(repr, variable.categories[:10])),
                "name one of these",
            )
        if self._recipe.kinds.get(variable.name) == "category":
            return pd.Categorical(list(values), categories=list(variable.categories))
        return np.asarray(values)
