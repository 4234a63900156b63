"""The analysed rows with some predictors set to other values: what if everyone had x = 1?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows
from multilevel.design.grid import Grid
from multilevel.errors import InferenceError
from multilevel.interpret.generalized.evidence import GeneralizedEvidence

Array = NDArray[np.float64]


class Settings:
    """Rows of every part as a function of the predictors, others as observed.

    Parameters
    ----------
    evidence : the fit.
    rows : positions (m,) of the analysed rows to use.
    """

    def __init__(self, evidence: GeneralizedEvidence, rows: NDArray[np.intp]) -> None:
        self.evidence, self.at = evidence, rows
        design = evidence.design
        self.sources: dict[int, tuple[list[int], Grid]] = {}
        for d, part in enumerate(design.parts):
            if part.design is not None:
                entry = self.sources.setdefault(id(part.design), ([], Grid(part.design)))
                entry[0].append(d)
        self.base = evidence.rows.pick(rows)

    @property
    def main(self) -> Grid:
        """The grid of the formula of the mean."""
        return next(iter(self.sources.values()))[1]

    def find(self, name: str) -> str:
        """The predictor that a name means, in whichever part has it.

        Raises ``DesignError`` where no part has it.
        """
        for _, grid in self.sources.values():
            if name in grid.variables:
                return name
        return self.main.find(name)

    def observed(self, name: str) -> Array | None:
        """Values (n,) of a number in the analysed rows, where the design still holds them."""
        for _, grid in self.sources.values():
            if name in grid.variables and grid.variables[name].observed is not None:
                return grid.variables[name].observed
        return None

    def rows(self, changes: Mapping[str, Any]) -> PartRows:
        """The rows with predictors set: ``{name: one value, or (m,) numbers}``.

        Raises
        ------
        InferenceError : a predictor whose values in the analysed rows are not known.
        """
        X, columns = list(self.base.X), list(self.base.columns)
        pieces: dict[frozenset[str], list[Array]] = {}
        for parts, grid in self.sources.values():
            relevant = {k: v for k, v in changes.items() if k in grid.variables}
            values = {
                name: relevant[name] if name in relevant else self._as_observed(grid, name)
                for name in grid.variables
            }
            filled = {name: self._column(value) for name, value in values.items()}
            wide = grid.rows(filled) if filled else grid.design.X[self.at]
            random = grid.random_rows(filled) if filled else tuple(
                b.columns[self.at] for b in grid.design.blocks
            )  # fmt: skip
            for d in parts:
                X[d] = np.asarray(wide[:, list(self.evidence.design.parts[d].columns)])
            for block, z in zip(grid.design.blocks, random, strict=True):
                key = frozenset(block.group.split(":"))
                pieces.setdefault(key, []).extend([z] * len(parts))
        for t, own in enumerate(self.evidence.design.blocks):
            columns[t] = np.hstack(pieces[frozenset(own.group.split(":"))])
        return replace(self.base, X=tuple(X), columns=tuple(columns))

    def _column(self, value: Any) -> list[Any]:
        """One value for each row."""
        if isinstance(value, np.ndarray | list):
            return list(value)
        return [value] * len(self.at)

    def _as_observed(self, grid: Grid, name: str) -> Any:
        variable = grid.variables[name]
        if variable.is_category:
            return _categories(grid, name, self.at)
        values = self.observed(name)
        if values is None:
            raise InferenceError(
                "Averages over the analysed rows need the values of every predictor.",
                f"{name} enters the model only inside a function or a product",
                f'set it: at={{"{name}": value}}, or add it to the formula',
            )
        return values[self.at]


def _categories(grid: Grid, name: str, rows: NDArray[np.intp]) -> list[Any]:
    """The category of each row, read back from the columns that code it alone.

    Raises
    ------
    InferenceError : the design does not hold them (the predictor is in products only).
    """
    variable, design = grid.variables[name], grid.design
    coded = np.vstack([grid.rows({name: [c]}) for c in variable.categories])
    own = [
        j for j, column in enumerate(design.names)
        if ":" not in column and np.ptp(coded[:, j]) > 0.0
    ]  # fmt: skip
    distance = np.abs(design.X[rows][:, None, own] - coded[None, :, own]).sum(axis=2)
    if not own or np.max(distance.min(axis=1), initial=0.0) > 1e-8:
        raise InferenceError(
            "Averages over the analysed rows need the values of every predictor.",
            f"{name} is in the model only within products",
            f'set it: at={{"{name}": category}}, or add its main effect',
        )
    return [variable.categories[k] for k in np.argmin(distance, axis=1)]
