"""Mediation with three levels and slopes that vary at the second, the third, or both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import ModelError


@pytest.fixture(scope="module")
def data():
    """40 schools of 4 classes of 8; both slopes vary between classes and between schools."""
    rng = np.random.default_rng(3)
    unit = np.repeat(np.arange(160), 8)
    school, n = unit // 4, len(unit)
    high, low = rng.normal(size=(40, 5)), rng.normal(size=(160, 5))

    def parts(k: int, size: float) -> np.ndarray:
        return size * (high[school, k] + low[unit, k])

    x = parts(0, 0.5) + rng.normal(size=n)
    m = (0.5 + parts(3, 0.35)) * x + parts(1, 0.5) + rng.normal(size=n)
    b = 0.4 + 0.6 * parts(3, 0.35) + 0.8 * parts(4, 0.35)
    y = b * m + 0.2 * x + parts(2, 0.5) + rng.normal(size=n)
    return pd.DataFrame({"school": school, "class": unit % 4, "x": x, "m": m, "y": y})


@pytest.mark.parametrize(
    ("slopes", "levels"),
    [("class", ["class"]), ("school", ["school"]), ("random", ["class", "school"])],
)
def test_covariances_of_the_levels_add_to_the_indirect_effect(data, slopes, levels):
    found = mlm.mediate(
        x="x", m="m", y="y", data=data, cluster="school/class", slopes=slopes, n_draws=500
    )
    effects = found.effects().set_index(["effect", "level"])["estimate"]
    table = found.model.parameters().set_index("label")["estimate"]
    taus = effects["slope_covariance"]
    assert taus.index.tolist() == levels
    product = table["a_within"] * table["b_within"]
    assert effects["indirect", "within"] == pytest.approx(product + taus.sum(), rel=1e-10)
    slope = table["b_within"] + table["context_level3"]
    assert effects["indirect", "school"] == pytest.approx(table["a_level3"] * slope, rel=1e-10)
    text = str(found)
    for level in levels:
        assert f"differ between {level}" in " ".join(text.split())
    assert found.model.certificate.is_certified


def test_what_the_slopes_may_be(data):
    with pytest.raises(ModelError, match="'class', 'school'"):
        mlm.mediate(x="x", m="m", y="y", data=data, cluster="school/class", slopes="both")
    top = data.assign(m=data.groupby("school")["m"].transform("mean"))
    with pytest.raises(ModelError, match="both vary within clusters"):
        mlm.mediate(x="x", m="m", y="y", data=top, cluster="school/class", slopes="random")


def test_slopes_of_one_equation_are_those_of_the_mixed_model(data):
    """m on x with random slopes at both levels: the same likelihood as ``fit``."""
    frame = data.assign(xc=data["x"] - data.groupby(["school", "class"])["x"].transform("mean"))
    text = "level: 1\na | m ~ xc\nlevel: 2\na ~~ m\na ~~ a\nm ~~ m\nlevel: 3\na ~ 1\na ~~ m\nm ~ 1"
    result = mlm.sem(text, frame, cluster="school/class")
    mixed = mlm.fit("m ~ xc + (xc | school/class)", frame, method="ml")
    assert result.minus2_loglik == pytest.approx(mixed.minus2_loglik, abs=1e-6)
    mean = result.parameters().query("lhs == 'a' and op == '~1' and level == 'school'")
    assert mean["estimate"].item() == pytest.approx(mixed.fixed_effects["xc"], abs=1e-5)
