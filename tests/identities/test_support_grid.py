"""Every supported cell is fitted: structure x design x method x weights x offset, one walk.

What is outside of the grid must say what is inside.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.model.covariance.curves import TIMED
from multilevel.model.covariance.structures import FORMULA_NAMES, STRUCTURES
from multilevel.model.specification import METHODS

#: Structures that need columns of their own: occasions, or more effects than an intercept and a
#: slope. ``t`` has two rows at each of four times.
COLUMNS = {
    **dict.fromkeys(TIMED, "0 + t"),
    **dict.fromkeys(("csh", "fa", "rr"), "0 + C(t)"),
}
NAME_OF = {structure: name for name, structure in FORMULA_NAMES.items() if name != "un"}
DESIGNS = {
    "nested": "{term}({columns} | g)",
    "three levels": "{term}({columns} | g) + (1 | top)",
    "crossed": "{term}({columns} | g) + (1 | other)",
}
CELLS = [
    cell
    for cell in itertools.product(STRUCTURES, DESIGNS, METHODS, (False, True), (False, True))
    if cell[0] not in COLUMNS or cell[3] == cell[4]
]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(5)
    n = 400
    g = np.arange(n) // 8
    other = rng.integers(0, 12, n)
    x, offset = rng.standard_normal(n), rng.standard_normal(n)
    y = 2 + x + offset + rng.standard_normal((50, 2))[g, 0] + rng.standard_normal(50)[g] * x
    y = y + 0.7 * rng.standard_normal(10)[g // 5] + 0.7 * rng.standard_normal(12)[other]
    return pd.DataFrame(
        {
            "y": y + rng.standard_normal(n),
            "x": x,
            "off": offset,
            "w": rng.uniform(0.5, 2.0, n),
            "g": g,
            "t": np.arange(n) % 8 // 2,
            "top": g // 5,
            "other": other,
        }
    )


def test_the_grid_covers_every_structure_and_method():
    assert set(NAME_OF) == set(STRUCTURES)
    assert {cell[2] for cell in CELLS} == set(METHODS)


@pytest.mark.parametrize(("structure", "design", "method", "weighted", "shifted"), CELLS)
def test_every_supported_cell_is_fitted(table, structure, design, method, weighted, shifted):
    columns = COLUMNS.get(structure, "1 + x")
    bars = DESIGNS[design].format(term=NAME_OF[structure], columns=columns)
    formula = f"y ~ x + {bars}" + (" + offset(off)" if shifted else "")
    m = mlm.fit(formula, table, method=method, weights="w" if weighted else None)
    assert m.certificate.is_certified
    plain = mlm.fit(f"y ~ x + {bars}", table, method=method)
    if weighted or shifted:  # an option that changed nothing would be an option ignored
        assert abs(m.fit.criterion - plain.fit.criterion) > 1e-3
    G = m.random_covariance["g"].to_numpy()
    if structure in ("diagonal", "identity"):
        assert G[0, 1] == 0.0
    if structure in ("identity", "compound_symmetry"):
        assert G[0, 0] == pytest.approx(G[1, 1])


@pytest.mark.parametrize(
    ("formula", "options", "named"),
    [
        ("y ~ x + magic(1 + x | g)", {}, "cs"),
        ("y ~ x + (1 | g)", {"method": "pql"}, "reml"),
        ("y ~ x + (1 | g)", {"engine": "magic"}, "nested"),
        ("y ~ x + (1 | g)", {"rank_deficient": "ignore"}, "refuse"),
    ],
)
def test_what_is_not_supported_names_what_is(table, formula, options, named):
    with pytest.raises(mlm.errors.MultilevelError, match=named):
        mlm.fit(formula, table, **options)
