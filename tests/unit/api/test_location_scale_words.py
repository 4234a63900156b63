"""Sentences of location-scale models: directions, articles, and which fits they belong to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    """Clusters with a higher mean have a lower precision: they vary more."""
    rng = np.random.default_rng(4)
    school = np.repeat(np.arange(40), 20)
    u = rng.normal(size=40)
    mean = 1.0 / (1.0 + np.exp(-0.5 * u[school]))
    phi = np.exp(2.5 - 0.9 * u[school])
    x = rng.normal(size=len(school))
    share = np.clip(rng.beta(mean * phi, (1.0 - mean) * phi), 1e-4, 1.0 - 1e-4)
    y = u[school] + np.exp(0.4 * u[school] + 0.2 * x) * rng.normal(size=len(school))
    return pd.DataFrame({"share": share, "y": y, "x": x, "school": school})


def test_a_larger_precision_is_less_variance(data: pd.DataFrame) -> None:
    m = mlm.fit("share ~ 1 + (1 | school)", data, family="beta", scale="~ 1 + (1 | school)")
    found = m.scale_correlations()
    assert found["estimate"][0] < -0.5
    assert "larger (Intercept) effect vary more within" in found.attrs["sentence"]
    text = m.variability_paragraph()
    assert "Clusters with a higher mean vary more" in text
    clusters = m.cluster_variances()
    largest = clusters[clusters["ratio"] > 1.0].iloc[0]
    assert f"most even: {largest['level']} " in text
    assert "the precision phi that is expected" in text


def test_effects_of_predictors_on_the_variance_have_words_of_their_own(data: pd.DataFrame) -> None:
    m = mlm.fit("y ~ x + (1 | school)", data, scale="~ x + (x | school)", allow=("not_certified",),
                n_quad=1)  # fmt: skip
    text = m.scale_correlations().attrs["sentence"]
    assert "vary more within" in text
    assert "dispersion:" not in text
    if "effect of x" in text:
        assert "effect of x on the log residual variance" in text


def test_the_article_fits_the_noun(data: pd.DataFrame) -> None:
    from multilevel.interpret.location_scale.effects import with_article

    assert with_article("overdispersion alpha") == "an overdispersion alpha"
    assert with_article("residual variance") == "a residual variance"


@pytest.mark.parametrize("scale", [None, "~ x"])
def test_other_fits_say_what_to_write(data: pd.DataFrame, scale: str | None) -> None:
    m = mlm.fit("y ~ x + (1 | school)", data, scale=scale)
    for name in ("variance_effects", "plot_location_scale", "test_random_scale"):
        with pytest.raises(mlm.errors.InferenceError, match="row_variances"):
            getattr(m, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        m.nothing  # noqa: B018
