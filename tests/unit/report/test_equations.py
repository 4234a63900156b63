from __future__ import annotations

import numpy as np

from multilevel.report.equations import equations
from tests.unit.report import hand


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
