"""Measurement invariance across levels and groups: steps, tests, verdict, partial invariance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import FormulaError, ModelError

ONE = "f =~ y1 + y2 + y3 + y4"


def _items(bias: float = 0.0, loading: float = 1.0, seed: int = 4) -> pd.DataFrame:
    """150 clusters of 12; ``bias`` is the between residual sd of y4, ``loading`` y3's between."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(150), 12)
    within, between = rng.normal(size=len(g)), 0.7 * rng.normal(size=150)[g]
    out = {"g": g}
    for k in range(1, 5):
        size = loading if k == 3 else 1.0
        out[f"y{k}"] = within + size * between + rng.normal(size=len(g))
    out["y4"] = out["y4"] + bias * rng.normal(size=150)[g]
    return pd.DataFrame(out)


def test_strong_invariance_is_found_where_it_holds():
    found = mlm.invariance(ONE, _items(), cluster="g")
    assert found.highest == "strong"
    assert found.models()["df"].tolist() == [4, 7, 11]
    tests = found.tests()
    assert tests["df"].tolist() == [3, 4]
    assert tests["holds"].all()
    deviance = found.models()["minus2_loglik"].to_numpy()
    assert np.allclose(tests["statistic"], np.diff(deviance))
    assert "because of the latent variables only" in found.sentences[0]


def test_cluster_bias_is_named_and_may_be_left_free():
    data = _items(bias=0.5)
    found = mlm.invariance(ONE, data, cluster="g")
    assert found.highest == "weak"
    worst = found.constraints("strong").iloc[0]
    assert worst["parameter"] == "y4 ~~ y4"
    assert worst["level"] == "between"
    assert "free=['y4 ~~ y4']" in found.summary(width=200)
    # the expected change is near the estimate of the model that frees it
    partial = mlm.invariance(ONE, data, cluster="g", free=["y4 ~~ y4"])
    assert partial.highest == "strong"
    table = partial.results["strong"].parameters()
    own = table.query("level == 'between' and op == '~~' and lhs == 'y4' and rhs == 'y4'")
    assert own["estimate"].item() == pytest.approx(0.25, rel=0.4)


def test_unequal_loading_is_named():
    found = mlm.invariance(ONE, _items(loading=2.0), cluster="g")
    assert found.highest == "configural"
    assert found.constraints("weak").iloc[0]["parameter"] == "f =~ y3"
    free = mlm.invariance(ONE, _items(loading=2.0), cluster="g", free="f =~ y3")
    assert free.highest == "strong"
    # a score test is near the likelihood ratio of the model that frees the constraint
    small = mlm.invariance(ONE, _items(loading=1.15), cluster="g")
    large = mlm.invariance(ONE, _items(loading=1.15), cluster="g", free="f =~ y3")
    gain = (small.models()["minus2_loglik"] - large.models()["minus2_loglik"])[1]
    row = small.constraints("weak").query("parameter == 'f =~ y3'")
    assert row["statistic"].item() == pytest.approx(gain, rel=0.15)


def test_every_step_is_what_sem_makes_of_its_text():
    data = _items(bias=0.3)
    found = mlm.invariance(ONE, data, cluster="g", std_errors="robust")
    for step in found.steps:
        # steps are not bounded, so that their chi-squares need no mixtures
        again = mlm.sem(step.text, data, cluster="g", std_errors="robust", allow=("inadmissible",))
        assert found.results[step.name].minus2_loglik == pytest.approx(
            again.minus2_loglik, abs=1e-6
        )
    assert found.tests()["scaling"].notna().all()


def test_groups_of_clusters_free_the_means_from_the_strong_step():
    data = _items()
    data["country"] = np.where(data["g"] < 75, "A", "B")
    shift = np.where(data["country"] == "B", 1.0, 0.0)
    for k in range(1, 5):
        data[f"y{k}"] = data[f"y{k}"] + shift
    found = mlm.invariance(ONE, data, cluster="g", group="country")
    assert found.highest == "strict"
    assert found.tests()["df"].tolist() == [6, 3, 8]
    table = found.results["strict"].parameters()
    means = table.query("lhs == 'f' and op == '~1' and level == 'between'")
    assert means["estimate"].tolist()[0] == 0.0
    assert means["estimate"].tolist()[1] == pytest.approx(1.0, abs=0.3)
    bent = data.assign(y2=data["y2"] + 0.5 * shift)
    broken = mlm.invariance(ONE, bent, cluster="g", group="country")
    assert broken.highest == "weak"
    assert broken.constraints("strong").iloc[0]["parameter"] == "y2 ~ 1"


def test_three_groups_test_each_group_of_a_constraint():
    rng = np.random.default_rng(2)
    h = np.repeat(["a", "b", "c"], 300)
    f = rng.normal(size=900)
    data = pd.DataFrame({"h": h, **{f"y{k}": f + rng.normal(size=900) for k in range(1, 5)}})
    data.loc[data["h"] == "c", "y3"] += 0.8
    found = mlm.invariance(ONE, data, group="h")
    assert found.highest == "weak"
    worst = found.constraints("strong").iloc[0]
    assert (worst["parameter"], worst["group"]) == ("y3 ~ 1", "c")


def test_residual_covariances_and_missing_values_go_along():
    data = _items()
    data.loc[::7, "y2"] = np.nan
    found = mlm.invariance(ONE + "\ny1 ~~ y2", data, cluster="g")
    assert found.models()["df"].tolist() == [2, 5, 10]
    assert "y1 ~~ `y2`" in found.steps[0].text.replace("`y1`", "y1")


def test_report_and_summary(tmp_path):
    found = mlm.invariance(ONE, _items(), cluster="g", std_errors="robust")
    text = repr(found)
    assert "Against the step before (scaled, MLR)" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    page = found.report(tmp_path / "levels.md").read_text("utf-8")
    assert "Answer" in page
    assert "level: within" in page


@pytest.mark.parametrize(
    ("text", "kwargs", "message"),
    [
        (ONE, {}, "across levels or across groups"),
        ("level: 1\n" + ONE, {"cluster": "g"}, "holds for all levels"),
        ("f =~ y1 + a*y2", {"cluster": "g"}, "without labels"),
        ("y1 ~ y2", {"cluster": "g"}, "y1 ~ y2"),
        ("y1 ~~ y2", {"cluster": "g"}, "no line with =~"),
        (ONE + "\nf ~~ y1", {"cluster": "g"}, "join items"),
        (ONE, {"cluster": "g", "free": ["f =~ y1"]}, "its unit"),
        (ONE, {"cluster": "g", "alpha": 5}, "alpha"),
        ("f =~ y1 + y2", {"cluster": "g"}, "at most as many"),
    ],
)
def test_what_is_no_definition_is_refused(text, kwargs, message):
    with pytest.raises((ModelError, FormulaError), match=message):
        mlm.invariance(text, _items(), **kwargs)
