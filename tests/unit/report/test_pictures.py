"""Every picture of every design is drawn, holds what the fit says, and stays small."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import plotnine as p9
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError, MissingPackageError
from multilevel.report.layout import short
from multilevel.report.packages import require
from multilevel.report.plots.backend import MAX_MARKS, sample_rows, spread_rows, to_png
from multilevel.report.plots.columns import Moving, rows_along
from multilevel.report.plots.lines import region_limits
from multilevel.report.plots.variance import average_piles
from tests.unit.report import fits

mpl.use("Agg")

CASES = [
    ("nested", "clusters", {}),
    ("nested", "slopes", {}),
    ("nested", "slopes", {"predictor": "t", "moderator": "w"}),
    ("nested", "johnson_neyman", {"predictor": "t", "moderator": "w"}),
    ("nested", "caterpillar", {}),
    ("nested", "caterpillar", {"term": "t"}),
    ("nested", "variance", {}),
    ("nested", "residuals", {}),
    ("nested", "spaghetti", {}),
    ("nested", "piles", {}),
    ("nested", "profile", {"components": ["sd", "correlation"]}),
    ("three_level", "profile", {}),
    ("three_level", "clusters", {"group": "school:room"}),
    ("three_level", "slopes", {}),
    ("three_level", "caterpillar", {}),
    ("three_level", "residuals", {}),
    ("three_level", "spaghetti", {"group": "school"}),
    ("three_level", "piles", {}),
    ("crossed", "clusters", {}),
    ("crossed", "slopes", {}),
    ("crossed", "johnson_neyman", {}),
    ("crossed", "caterpillar", {"group": "subject"}),
    ("crossed", "variance", {}),
    ("crossed", "residuals", {"group": "item"}),
    ("crossed", "spaghetti", {}),
    ("crossed", "piles", {}),
]


def marks(picture) -> int:
    """Points, corners of lines and ends of segments that matplotlib is given."""
    figure = picture.draw()
    total = 0
    for axes in figure.axes:
        for line in axes.get_lines():
            total += len(line.get_xdata())
        for collection in axes.collections:
            offsets = len(collection.get_offsets())
            corners = sum(len(path.vertices) for path in collection.get_paths())
            total += max(offsets, corners)
        total += len(axes.patches)
    return total


@pytest.mark.parametrize(("design", "name", "options"), CASES)
def test_every_picture_is_drawn_without_a_warning(design, name, options):
    picture = fits.FITS[design]().plot(name, **options)
    assert to_png(picture, dpi=50).startswith(b"\x89PNG")
    assert marks(picture) > 0


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20_000), 10)
    x = rng.normal(size=200_000)
    y = x + rng.normal(size=20_000)[g] + 0.5 * rng.normal(size=20_000)[g] * x
    data = {"y": y + rng.normal(size=200_000), "x": x, "g": g}
    return mlm.fit("y ~ x + (x | g)", data)


@pytest.mark.parametrize(
    "name", ["clusters", "slopes", "caterpillar", "variance", "residuals", "spaghetti", "piles"]
)
def test_two_hundred_thousand_rows_give_few_marks(large, name):
    picture = large.plot(name)
    assert marks(picture) <= MAX_MARKS
    if name in ("clusters", "residuals", "caterpillar", "spaghetti"):
        assert "are drawn" in picture.labels.caption.replace("\n", " ")


def layers(picture):
    return [layer._data for layer in picture.layers]


def test_lines_of_clusters_are_conditional_predictions():
    m = fits.crossed()
    lines = layers(m.plot("clusters", predictor="x", group="subject"))[1]
    item = m.design.blocks[[b.group for b in m.design.blocks].index("item")]
    for code, rows in lines.groupby("cluster"):
        w = m.design.X[:, m.design.names.index("w")]
        subject = next(b for b in m.design.blocks if b.group == "subject")
        one = {"x": rows["x"], "w": np.full(len(rows), w[subject.codes == int(code)].mean())}
        one |= {"subject": np.full(len(rows), int(code)), "item": np.full(len(rows), 999)}
        expected = m.predict(one, kind="conditional")["estimate"]
        np.testing.assert_allclose(rows["y"], expected, rtol=1e-9)
    assert item.n_levels == 12


def test_bands_of_simple_slopes_are_those_of_predict():
    m = fits.crossed()
    frame = m.plot("slopes", predictor="x", moderator="w", df="none").data
    w = m.design.X[:, m.design.names.index("w")]
    values = [w.mean() - w.std(ddof=1), w.mean(), w.mean() + w.std(ddof=1)]
    for value, label in zip(values, frame["at"].cat.categories, strict=True):
        rows = frame[frame["at"] == label]
        new = {"x": rows["x"], "w": np.full(len(rows), value)}
        expected = m.predict(new, kind="population", std_error=True)
        np.testing.assert_allclose(rows["y"], expected["estimate"], rtol=1e-9)
        half = 1.959963984540054 * expected["std_error"]
        np.testing.assert_allclose((rows["high"] - rows["low"]) / 2, half, rtol=1e-9)


def test_slopes_of_a_category_show_each_of_its_levels_and_curves():
    m = fits.nested()
    frame = m.plot("slopes", predictor="t", moderator="arm[c]").data
    assert list(frame["at"].cat.categories) == ["a", "b", "c"]
    w = m.design.X[:, m.design.names.index("w")].mean()
    rows = frame[(frame["at"] == "c") & frame["x"].isin([0.0, 6.0])]
    new = {"t": rows["x"].to_numpy(), "arm": np.array(["c", "c"]), "w": np.full(2, w)}
    expected = m.predict(new, kind="population")["estimate"]
    np.testing.assert_allclose(rows["y"], expected, rtol=1e-9)


def test_the_category_without_a_column_has_its_name():
    m = fits.nested()
    y, g = m.design.y, m.design.blocks[0].codes
    for formula, labels in (
        ("y ~ x * C(k) + (1 | g)", ["1", "2", "3"]),
        ('y ~ x * C(k, contr.treatment(base="2")) + (1 | g)', ["2", "1", "3"]),
    ):
        k = np.array(["1", "2", "3"])[np.arange(len(y)) % 3]
        fit = mlm.fit(formula, {"y": y, "x": np.arange(len(y)) % 5.0, "k": k, "g": g})
        picture = fit.plot("slopes")
        assert list(picture.data["at"].cat.categories) == labels
        assert picture.labels.color == "k"


@pytest.mark.parametrize("width", [3.5, 7.0, 12.0])
def test_captions_stay_inside_the_picture(width):
    picture = fits.crossed().plot("caterpillar") + p9.theme(figure_size=(width, 4.0))
    figure = picture.draw()
    figure.canvas.draw()
    words = fits.crossed().plot("caterpillar").labels.caption.split()
    (text,) = [t for t in figure.texts if t.get_text().split() == words]
    box = text.get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert text.get_text().count("\n") >= (1 if width < 10 else 0)


def test_region_is_that_of_the_table():
    m = fits.crossed()
    for df in ("none", "satterthwaite"):
        regions = m.johnson_neyman("x", "w", df=df)
        caption = m.plot("johnson_neyman", predictor="x", moderator="w", df=df).labels.caption
        ends = [r.low for r in regions.itertuples() if r.low_inside]
        assert len(ends) >= 1
        for end in ends:
            assert short(end) in caption


def test_bands_follow_the_degrees_of_freedom():
    m = fits.crossed()
    wide = m.plot("slopes", predictor="x", moderator="w").data
    narrow = m.plot("slopes", predictor="x", moderator="w", df="none").data
    assert ((wide["high"] - wide["low"]) > (narrow["high"] - narrow["low"])).all()


def test_limits_of_the_region_solve_their_equation():
    b, V = np.array([0.5, 0.4]), np.array([[0.04, -0.005], [-0.005, 0.01]])

    def line(w):
        variance = V[0, 0] + 2 * w * V[0, 1] + w * w * V[1, 1]
        return b[0] + b[1] * w, 1.959963984540054 * np.sqrt(variance)

    limits = region_limits(line, np.linspace(-9.0, 9.0, 100))
    assert len(limits) == 2
    for w in limits:
        error = np.sqrt(V[0, 0] + 2 * w * V[0, 1] + w * w * V[1, 1])
        assert abs(b[0] + b[1] * w) == pytest.approx(1.959963984540054 * error, rel=1e-9)
    assert region_limits(line, np.linspace(1.0, 2.0, 10)) == []


def test_caterpillar_shows_the_random_effects_in_order():
    m = fits.nested()
    frame = m.plot("caterpillar", term="t").data
    effects = m.random_effects()
    expected = effects[effects["term"] == "t"].sort_values("estimate")
    np.testing.assert_allclose(frame["estimate"], expected["estimate"])
    np.testing.assert_allclose(frame["low"], expected["conf_low"], rtol=1e-7)


def test_variance_along_a_predictor():
    m = fits.nested()
    frame = m.plot("variance").data
    G = m.random_covariance["g"].to_numpy()
    own = frame[frame["Source"] == "g"]
    x = own["x"].to_numpy()
    expected = G[0, 0] + 2 * x * G[0, 1] + x * x * G[1, 1]
    np.testing.assert_allclose(own["variance"], expected, rtol=1e-10)
    residual = frame[frame["Source"] == "residual"]["variance"]
    np.testing.assert_allclose(residual, m.residual_variance)


def test_limits_in_profiles_are_those_of_the_table():
    m = fits.three_level()
    picture = m.plot("profile")
    table = m.confint("profile", components=["sd"])
    segments = layers(picture)[2]
    marked = segments[segments["is_marked"] == "yes"]
    expected = table[["conf_low", "conf_high"]].to_numpy().ravel()
    drawn = set(np.round(marked["value"], 2))
    assert drawn == {round(v, 2) for v in expected if v > 0.0}
    assert "Fixed effects have a profile under ML only." in picture.labels.caption


def test_piles_are_the_variances_of_random_intercepts():
    m = fits.three_level()
    found = average_piles(m._picture_source())
    for group, G in m.random_covariance.items():
        assert found[group] == pytest.approx(G.iloc[0, 0], rel=1e-12)
    picture = m.plot("piles", models=[m], names=["first", "second"])
    assert list(picture.data["Model"].cat.categories) == ["first", "second"]


def test_rows_along_a_product():
    X = np.column_stack([np.ones(4), [0.0, 1, 2, 3], [1.0, 2, 1, 2], [0.0, 2, 2, 6]])
    names = ("(Intercept)", "x", "w", "x:w")
    move = {"x": Moving(X[:, 1], np.array([10.0, 20.0]))}
    rows = rows_along(names, X, X.mean(axis=0), move)
    np.testing.assert_allclose(rows, [[1, 10, 1.5, 15], [1, 20, 1.5, 30]])


def test_column_that_mixes_two_predictors_is_refused():
    X = np.column_stack([[0.0, 0, 1, 1], [3.0, 4, 5, 6]])
    with pytest.raises(InferenceError, match="depend on nothing else"):
        rows_along(("x", "np.hypot(x, z)"), X, X.mean(0), {"x": Moving(X[:, 0], np.array([0.5]))})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pie", {}, "'caterpillar': random effects"),
        ("residuals", {"colour": "red"}, "takes the options group"),
        ("variance", {"predictor": "w"}, "only if its slope is random"),
        ("johnson_neyman", {"predictor": "t", "moderator": "g"}, "must be one of"),
        ("caterpillar", {"group": "school"}, "grouping factor must be one of g"),
        ("clusters", {"predictor": "nothing"}, "predictor must be one of: t,"),
    ],
)
def test_what_cannot_be_drawn_says_what_can(name, options, message):
    with pytest.raises(InferenceError, match=message):
        fits.nested().plot(name, **options)


def test_empty_model_has_no_axis():
    with pytest.raises(InferenceError, match="needs a predictor"):
        fits.empty().plot("clusters")


def test_samples_are_bounded_and_repeatable():
    assert len(sample_rows(10_000, 50)) == 50
    np.testing.assert_array_equal(sample_rows(10_000, 50), sample_rows(10_000, 50))
    assert spread_rows(101, 3).tolist() == [0, 50, 100]
    assert sample_rows(5).tolist() == [0, 1, 2, 3, 4]


def test_missing_package_names_its_command():
    with pytest.raises(MissingPackageError, match='pip install "some-thing"'):
        require("no_such_module_here", "Pictures", "some-thing")


def test_a_fit_does_not_load_the_plotting_library():
    code = (
        "import multilevel as mlm, sys\n"
        "m = mlm.fit('y ~ 1 + (1 | g)', {'y': [1.0, 2, 4, 3, 7, 5], 'g': [0, 0, 1, 1, 2, 2]})\n"
        "repr(m)\n"
        "sys.exit(', '.join({'matplotlib', 'plotnine', 'docx'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
