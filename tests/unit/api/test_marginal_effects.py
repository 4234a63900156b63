"""The package marginaleffects gives the numbers of our own slopes, comparisons and predictions."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError, MissingPackageError
from multilevel.report import packages

HSB = mlm.load_hsb()
#: The package's own use of polars 1.
pytestmark = pytest.mark.filterwarnings("ignore:.*get_categories:DeprecationWarning")


@pytest.fixture(scope="module")
def m():
    return mlm.fit("mathach ~ ses * sector + C(minority) + (ses | school)", HSB)


def test_without_the_package_the_command_is_named(m, monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match='pip install "marginaleffects"'):
        mlm.for_marginaleffects(m, HSB)


@pytest.fixture(scope="module")
def me():
    return pytest.importorskip("marginaleffects")


@pytest.fixture(scope="module")
def adapter(me, m):
    return mlm.for_marginaleffects(m, HSB)


def test_slopes(me, m, adapter):
    ours = m.slopes("ses", df="none")
    ours = ours[ours["component"] == "slope"]
    found = me.avg_slopes(adapter, variables="ses", by="sector")
    np.testing.assert_allclose(found["estimate"], ours["estimate"], rtol=1e-6)
    # the package differences twice, over 1e-4 and over 1e-8 of each estimate
    np.testing.assert_allclose(found["std_error"], ours["std_error"], rtol=1e-4)


def test_comparisons_with_robust_errors(me, m, adapter):
    from marginaleffects.datagrid import datagrid

    grid = datagrid(model=adapter, ses=[-1.0, 1.0])
    found = me.comparisons(adapter, variables={"sector": [0, 1]}, newdata=grid)
    ours = m.comparisons("sector", at={"ses": [-1, 1]}, df="none")
    np.testing.assert_allclose(sorted(found["estimate"]), sorted(ours["estimate"]), rtol=1e-6)
    np.testing.assert_allclose(sorted(found["std_error"]), sorted(ours["std_error"]), rtol=1e-5)
    robust = me.comparisons(adapter, variables={"sector": [0, 1]}, newdata=grid, vcov="CR2")
    V = m.vcov_robust("CR2").to_numpy()
    names = list(m.design.names)
    errors = []
    for ses in (-1.0, 1.0):
        row = np.zeros(len(names))
        row[names.index("sector")], row[names.index("ses:sector")] = 1.0, ses
        errors.append(np.sqrt(row @ V @ row))
    np.testing.assert_allclose(sorted(robust["std_error"]), sorted(errors), rtol=1e-5)


def test_predictions(me, m, adapter):
    from marginaleffects.datagrid import datagrid

    new = datagrid(model=adapter, ses=[0.0, 1.0], sector=[0, 1])
    found = me.predictions(adapter, newdata=new)
    ours = m.predict(new, kind="population", std_error=True)
    np.testing.assert_allclose(found["estimate"], ours["estimate"], rtol=1e-10)
    np.testing.assert_allclose(found["std_error"], ours["std_error"], rtol=1e-6)


def test_hypotheses_and_df(me, m):
    from scipy.stats import t

    adapter = mlm.for_marginaleffects(m, HSB, df=158)
    found = me.hypotheses(adapter, hypothesis="b1 - b2 = 0")
    ours = m.test(f"{m.design.names[1]} - {m.design.names[2]} = 0", df="none")
    np.testing.assert_allclose(abs(found["estimate"][0]), abs(ours["estimate"][0]), rtol=1e-8)
    slope = me.avg_slopes(adapter, variables="ses", by="sector")
    half = t.ppf(0.975, 158) * slope["std_error"].to_numpy()
    np.testing.assert_allclose(slope["conf_high"] - slope["estimate"], half, rtol=1e-8)


def test_text_categories_and_centring(me):
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), 8)
    x = rng.normal(size=160) + 0.1 * g
    k = np.array(["a", "b", "c"])[rng.integers(0, 3, 160)]
    y = x + (k == "b") + rng.normal(size=20)[g] + rng.normal(size=160)
    y[[3, 9]] = np.nan
    data = {"y": y, "x": x, "k": k, "g": g}
    fit = mlm.fit("y ~ within(x, g) + between(x, g) + k + (1 | g)", data)
    adapter = mlm.for_marginaleffects(fit, data)
    slope = me.avg_slopes(adapter, variables="x")
    ours = fit.fixed_effects["within(x, g)"]
    assert slope["estimate"][0] == pytest.approx(ours, rel=1e-6)
    found = me.avg_comparisons(adapter, variables="k")
    expected = [fit.fixed_effects["k[b]"], fit.fixed_effects["k[c]"]]
    np.testing.assert_allclose(found["estimate"], expected, rtol=1e-6)


def test_what_cannot_be_handed_over_is_refused(me, m, adapter):
    with pytest.raises(InferenceError, match="rows, the model had 7185"):
        mlm.for_marginaleffects(m, {"mathach": [1.0], "ses": [0.0]})
    with pytest.raises(InferenceError, match="df must be"):
        mlm.for_marginaleffects(m, HSB, df=0)
    with pytest.raises(InferenceError, match="takes fits of general"):
        mlm.for_marginaleffects("m", HSB)
    with pytest.raises(InferenceError, match="vcov must be"):
        me.avg_slopes(adapter, variables="ses", vcov="HC3")
