from __future__ import annotations

import itertools

import numpy as np
import pytest

from multilevel.report.equations import equation_records, equations
from multilevel.report.facts import split_interaction
from multilevel.report.mathml import equations_latex, equations_mathml
from tests.unit.report import hand

ROOM = np.repeat(np.arange(12), 5)
SCHOOL = ROOM // 4
X = np.tile(np.arange(5.0), 12)
Z = np.random.default_rng(0).normal(size=12)[ROOM]
W = np.array([-1.0, 0.5, 1.0])[SCHOOL]


def three_level(columns, inner=("(Intercept)",), outer=("(Intercept)",)):
    values = {"(Intercept)": hand.ONE, "x": X, "z": Z, "w": W, "x:z": X * Z, "x:w": X * W}
    values |= {"z:w": Z * W, "x:z:w": X * Z * W}
    blocks = [
        hand.block("school:room", ROOM, [values[n] for n in inner], list(inner)),
        hand.block("school", SCHOOL, [values[n] for n in outer], list(outer)),
    ]
    return hand.design("y ~ ...", {n: values[n] for n in columns}, blocks)


def test_empty_model():
    lines = equations(hand.empty_model()[1])
    assert lines[0] == "Level 1:  mathach_pc = beta_0c + e_pc"
    assert lines[1] == "Level 2:  beta_0c = gamma_00 + U_0c"


def test_cross_level_interaction_moves_into_the_slope():
    lines = equations(hand.cross_level_model()[1])
    assert lines[0] == "Level 1:  mathach_pc = beta_0c + beta_1c ses_pc + e_pc"
    assert lines[1].endswith("beta_0c = gamma_00 + gamma_01 sector_c + U_0c")
    assert lines[2].strip() == "beta_1c = gamma_10 + gamma_11 sector_c + U_1c"


def test_names_with_calls_and_colons_inside_brackets():
    within, between = "within(ses, a:b)", "between(ses, a:b)"
    means = np.repeat(np.linspace(0, 1, 12), 5)
    columns = {"(Intercept)": hand.ONE, within: hand.SES - means, between: means}
    columns[f"{between}:{within}"] = (hand.SES - means) * means
    of = hand.design(
        "y ~ ...", columns, [hand.block("a:b", hand.CODES, [hand.ONE], ["(Intercept)"])]
    )
    lines = equations(of)
    assert f"beta_1c {within}_pc + e_pc" in lines[0]
    assert lines[2].strip() == f"beta_1c = gamma_10 + gamma_11 {between}_c"


def test_interaction_of_two_level_1_predictors_has_its_own_slope():
    x = np.tile(np.arange(5.0), 12)
    columns = {"(Intercept)": hand.ONE, "x": x, "ses": hand.SES, "x:ses": x * hand.SES}
    of = hand.design("y ~ x*ses", columns, [hand.block("g", hand.CODES, [x], ["x"])])
    lines = equations(of)
    assert "beta_3c x:ses_pc" in lines[0]
    assert lines[1].endswith("beta_0c = gamma_00")
    assert lines[2].strip() == "beta_1c = gamma_10 + U_1c"


def test_random_slope_without_its_fixed_slope_has_mean_zero():
    of = hand.design(
        "y ~ 1 + (ses | g)",
        {"(Intercept)": hand.ONE},
        [hand.block("g", hand.CODES, [hand.ONE, hand.SES], ["(Intercept)", "ses"])],
    )
    assert equations(of)[2].strip() == "beta_1c = U_1c"


def test_several_factors_have_one_composite_equation():
    item = np.tile(np.arange(5), 12)
    blocks = [
        hand.block("school", hand.CODES, [hand.ONE, hand.SES], ["(Intercept)", "ses"]),
        hand.block("item", item, [hand.ONE], ["(Intercept)"]),
    ]
    of = hand.design("y ~ ses", {"(Intercept)": hand.ONE, "ses": hand.SES}, blocks)
    assert equations(of) == (
        "y = gamma_0 + gamma_1 ses + U_0[school] + U_1[school] ses + U_0[item] + e",
    )


def test_three_levels_empty():
    assert equations(three_level(["(Intercept)"])) == (
        "Level 1:  y_tic = beta_0ic + e_tic",
        "Level 2:  beta_0ic = delta_00c + U_0ic",
        "Level 3:  delta_00c = gamma_000 + V_00c",
        "t: row, i: school:room, c: school",
    )


def test_three_levels_take_products_apart():
    of = three_level(
        ["(Intercept)", "x", "z", "w", "x:z", "x:w", "z:w", "x:z:w"],
        inner=["(Intercept)", "x"],
        outer=["(Intercept)", "x", "z"],
    )
    lines = [line.split(":  ")[-1].strip() for line in equations(of)]
    assert lines[:-1] == [
        "y_tic = beta_0ic + beta_1ic x_tic + e_tic",
        "beta_0ic = delta_00c + delta_01c z_ic + U_0ic",
        "beta_1ic = delta_10c + delta_11c z_ic + U_1ic",
        "delta_00c = gamma_000 + gamma_001 w_c + V_00c",
        "delta_01c = gamma_010 + gamma_011 w_c + V_01c",
        "delta_10c = gamma_100 + gamma_101 w_c + V_10c",
        "delta_11c = gamma_110 + gamma_111 w_c",
    ]
    assert equations_latex(equation_records(of)).count("\\delta_") == 8
    assert equations_mathml(equation_records(of)).count("\u03b4") == 8


@pytest.mark.parametrize(
    ("columns", "inner", "outer"),
    [
        (["x", "z"], ["x"], ["x"]),
        (["(Intercept)", "w", "x:w", "z:w"], ["(Intercept)", "x"], ["(Intercept)"]),
        (["(Intercept)", "x", "x:z:w", "z"], ["(Intercept)", "z"], ["(Intercept)", "w"]),
        (["(Intercept)", "z", "x:z", "w", "z:w"], ["(Intercept)"], ["z", "x"]),
    ],
)
def test_three_levels_put_together_are_the_model(columns, inner, outer):
    """Substituted into each other, the equations hold every fixed and random term once."""
    of = three_level(columns, inner, outer)
    found = {e.left.text: e.right for e in equation_records(of)}

    def expand(symbol):
        if symbol.text not in found:
            return [[symbol]]
        return [
            [s for piece in pieces for s in piece]
            for term in found[symbol.text]
            for pieces in itertools.product(*(expand(s) for s in term))
        ]

    held = {"gamma": [], "U": [], "V": [], "e": []}
    for product in expand(next(e.left for e in equation_records(of))):
        (kind,) = [s.name for s in product if s.name in held]
        parts = [p for s in product if s.is_variable for p in split_interaction(s.name)]
        held[kind].append(frozenset(parts))

    def wanted(names):
        return sorted(
            (frozenset() if n == "(Intercept)" else frozenset(split_interaction(n)) for n in names),
            key=sorted,
        )

    for kind, names in (("gamma", columns), ("U", inner), ("V", outer), ("e", ["(Intercept)"])):
        assert sorted(held[kind], key=sorted) == wanted(names)
