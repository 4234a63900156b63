"""Measurement invariance across three levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import ModelError

TEXT = "trait =~ y1 + y2 + y3 + y4"


@pytest.fixture(scope="module")
def data():
    """40 schools of 4 classes of 8 rows; y4 differs between schools for another reason."""
    rng = np.random.default_rng(1)
    unit = np.repeat(np.arange(160), 8)
    school, n = unit // 4, len(unit)
    trait = rng.normal(size=n) + 0.7 * rng.normal(size=160)[unit]
    trait = trait + 0.7 * rng.normal(size=40)[school]
    out = {"school": school, "class": unit % 4}
    for k in range(1, 5):
        out[f"y{k}"] = (0.9 + 0.1 * k) * trait + rng.normal(size=n)
    out["y4"] = out["y4"] + 0.6 * rng.normal(size=40)[school]
    return pd.DataFrame(out)


@pytest.fixture(scope="module")
def found(data):
    return mlm.invariance(TEXT, data, cluster="school/class")


def test_the_biased_item_and_its_level_are_found(found):
    assert found.highest == "weak"
    worst = found.constraints("strong").iloc[0]
    assert (worst["parameter"], worst["level"]) == ("y4 ~~ y4", "school")
    assert found.constraints("weak")["level"].isin(["within", "class", "school"]).all()
    text = str(found)
    assert "class in school" in text
    assert "y4 ~~ y4 (school level)" in " ".join(text.split())
    # where a step holds, a score test is about the gain of -2 log-likelihood from one parameter
    gain = found.tests().set_index("step").loc["weak", "unscaled"]
    assert found.constraints("weak")["statistic"].max() < 1.2 * gain
    assert {"srmr_between", "srmr_school"} <= set(found.models().columns)


def test_weak_counts_and_equalities(found):
    # 4 items: 3 free loadings at each of three levels become 3 in all; then 8 variances are zero
    numbers = found.models()["n_parameters"].tolist()
    assert numbers[0] - numbers[1] == 6
    assert numbers[1] - numbers[2] == 8
    table = found.results["weak"].parameters().query("op == '=~'")
    assert table.groupby("rhs")["estimate"].nunique().eq(1).all()
    assert set(table["level"]) == {"within", "class", "school"}


def test_freeing_the_item_gives_strong(data):
    partial = mlm.invariance(TEXT, data, cluster="school/class", free=["y4 ~~ y4"])
    assert partial.highest == "strong"


def test_steps_are_the_models_that_sem_fits(data, found):
    again = mlm.sem(found.steps[1].text, data, cluster="school/class", allow=["inadmissible"])
    assert again.minus2_loglik == pytest.approx(found.models()["minus2_loglik"][1], abs=1e-6)


def test_crossed_clusters_are_refused(data):
    with pytest.raises(ModelError, match="school/class"):
        mlm.invariance(TEXT, data, cluster=["class", "school"])
