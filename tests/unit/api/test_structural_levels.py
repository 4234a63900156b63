"""The fit of each level: identities with models whose other level is saturated by hand."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.unit.nested_data import nested_rows

ITEMS = ["y1", "y2", "y3", "y4"]
ONE = "f =~ y1 + y2 + y3 + y4"
FULL = "\n".join(f"{a} ~~ {b}" for k, a in enumerate(ITEMS) for b in ITEMS[k:])
BETWEEN = "y1 ~~ y2; y3 ~~ y4; y1 ~~ y1; y2 ~~ y2; y3 ~~ y3; y4 ~~ y4"


def text(within, between):
    return f"level: within\n{within}\nlevel: between\n{between}\n"


@pytest.fixture(scope="module")
def items():
    rng = np.random.default_rng(8)
    school = np.repeat(np.arange(80), 8)
    own = rng.normal(size=(640, 1)) + rng.normal(size=(640, 4))
    own[:, 3] += 0.8 * own[:, 2]  # what the within model leaves out
    shared = rng.normal(size=(80, 1)) + 0.7 * rng.normal(size=(80, 4))
    data = dict(zip(ITEMS, (own + shared[school]).T, strict=True))
    x = rng.normal(size=640)
    data["y1"][rng.random(640) < 0.1] = np.nan
    return {**data, "school": school, "kind": school % 2, "x": x}


def chi_square(within, between, items, **options):
    fitted = mlm.sem(text(within, between), items, cluster="school", **options)
    assert fitted.boundary == ()
    return fitted.fit_measures.model


@pytest.mark.parametrize("group", [None, "kind"])
def test_each_level_is_the_model_with_the_other_saturated_by_hand(items, group):
    options = {"group": group, "std_errors": "robust"}
    model = mlm.sem(text(ONE, BETWEEN), items, cluster="school", **options)
    found = model.fit_by_level().set_index("level")
    by_hand = {
        "within": chi_square(ONE, FULL, items, **options),
        "between": chi_square(FULL, BETWEEN, items, **options),
    }
    times = 2 if group else 1
    assert found["df"].to_dict() == {"within": 2 * times, "between": 4 * times}
    assert found["df"].sum() == model.fit_measures.model.df
    for level, hand in by_hand.items():
        ours = found.loc[level]
        assert ours["chi_square"] == pytest.approx(hand.statistic, rel=1e-6, abs=1e-6)
        assert ours["chi_square_scaled"] == pytest.approx(hand.scaled, rel=1e-6, abs=1e-6)
        assert ours["p_value"] == pytest.approx(hand.p_value, rel=1e-5)
        assert f"{hand.scaled:.2f}" in ours["sentence"]


def test_a_level_that_is_saturated_has_nothing_to_test(items):
    model = mlm.sem(text(ONE, FULL), items, cluster="school")
    within, between = model.fit_by_level().itertuples()
    whole = model.fit_measures
    assert within.chi_square == pytest.approx(whole.model.statistic, abs=1e-6)
    assert (within.df, within.p_value) == (2, pytest.approx(whole.model.p_value, rel=1e-6))
    assert within.srmr == whole.srmr_within
    assert (between.chi_square, between.df, between.cfi, between.rmsea) == (0.0, 0, 1.0, 0.0)
    assert "saturated" in between.sentence
    assert np.isnan(between.p_value)


def test_one_level_is_the_whole_model(items):
    alone = mlm.sem(ONE, items)
    found, whole = alone.fit_by_level().iloc[0], alone.fit_measures
    for name in ("cfi", "tli", "rmsea", "cfi_robust", "rmsea_robust"):
        assert found[name] == pytest.approx(getattr(whole, name), abs=1e-8)
    assert found["chi_square"] == pytest.approx(whole.model.statistic, abs=1e-6)


def test_labels_across_levels_are_left_to_the_whole_model(items):
    equal = "f =~ y1 + a*y2 + b*y3 + c*y4"
    found = mlm.sem(text(equal, equal), items, cluster="school").fit_by_level()
    free = mlm.sem(text(ONE, ONE), items, cluster="school").fit_by_level()
    assert found["df"].tolist() == [2, 2]
    assert found["chi_square"].to_numpy() == pytest.approx(free["chi_square"].to_numpy(), abs=1e-5)
    assert "equal across levels" in found.attrs["sentence"]
    assert "equal across levels" not in free.attrs["sentence"]


def test_bounds_do_not_touch_the_tests(items):
    rng = np.random.default_rng(3)
    none = {**items, "y4": items["y3"] + rng.normal(size=640)}  # no variance of its own between
    model = text(ONE, "f =~ y1 + y3 + y4")
    held = mlm.sem(model, none, cluster="school")
    free = mlm.sem(model, none, cluster="school", allow=("inadmissible",))
    assert held.boundary
    assert held.minus2_loglik > free.minus2_loglik
    inside, beyond = held.fit_by_level(), free.fit_by_level()
    assert inside["chi_square"].tolist() == pytest.approx(beyond["chi_square"].tolist())
    assert "at the boundary" in inside.attrs["sentence"]
    assert "at the boundary" not in beyond.attrs["sentence"]


def test_three_levels_each_beside_two_saturated_ones():
    data = nested_rows(23, schools=60, classes=4, rows=3)
    full, path = "x ~~ x; x ~~ m; x ~~ y; m ~~ m; m ~~ y; y ~~ y", "m ~ x; y ~ m"
    levels = ("within", "cls", "school")

    def fitted(restricted):
        parts = [f"level: {k}; {path if k in restricted else full}" for k in levels]
        return mlm.sem("; ".join(parts), data, cluster=["cls", "school"])

    found = fitted(levels).fit_by_level().set_index("level")
    assert found["df"].tolist() == [1, 1, 1]
    units = [len(data), data["cls"].nunique(), data["school"].nunique()]
    assert found["n_units"].tolist() == units
    for level in levels:
        hand = fitted((level,)).fit_measures.model.statistic
        assert found.loc[level, "chi_square"] == pytest.approx(hand, rel=1e-5, abs=1e-5)


def test_what_has_no_levels_to_test_says_so(items):
    slopes = mlm.sem(text("s | y2 ~ x", "y2 ~~ s"), items, cluster="school",
                     allow=("inadmissible",))  # fmt: skip
    with pytest.raises(InferenceError, match="random slopes s"):
        slopes.fit_by_level()
    means = mlm.sem(text("y2 ~ x\ny3 ~ x", "y2 ~~ y3\ny2 ~ m*1\ny3 ~ m*1"), items,
                    cluster="school")  # fmt: skip
    with pytest.raises(InferenceError, match="1 free means of 2 variables"):
        means.fit_by_level()
    passed = {**items, "y2": (items["y2"] > 0).astype(float)}
    mixed = mlm.sem("level: within\ny2 ~ x\nlevel: between\ny2 ~~ y2", passed, cluster="school",
                    families={"y2": "binomial"})  # fmt: skip
    with pytest.raises(InferenceError, match="Tests of each level"):
        mixed.fit_by_level()
