"""Reports, tables, slopes and pictures of fits with structured residuals."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.cli.main import main
from multilevel.errors import InferenceError
from multilevel.interpret.autocorrelation import lag_correlations, time_columns
from tests.support.residual import repeated_measures


@pytest.fixture(scope="module")
def frame():
    return repeated_measures(11, n_ids=40)


@pytest.fixture(scope="module")
def m(frame):
    return mlm.fit("y ~ time * x + (1 | id)", frame, residual="ar1(time | id)", scale="~ x")


def test_slopes_use_the_degrees_of_freedom_of_the_structure(m):
    at_zero = m.slopes("time", at={"x": 0.0}).iloc[0]
    row = m.coefficients().set_index("term").loc["time"]
    for name in ("estimate", "std_error", "df", "conf_low"):
        assert at_zero[name] == pytest.approx(row[name], rel=1e-9), name
    adjusted = m.slopes("time", at={"x": 0.0}, df="kenward-roger").iloc[0]
    kr = m.coefficients(df="kenward-roger").set_index("term").loc["time"]
    assert adjusted["std_error"] == pytest.approx(kr["std_error"], rel=1e-9)
    step = m.comparisons("x", at={"x": [0.0, 1.0], "time": 0.0}).iloc[0]
    slope = m.coefficients().set_index("term").loc["x"]
    assert (step["estimate"], step["df"]) == pytest.approx((slope["estimate"], slope["df"]))


def test_johnson_neyman_bounds_have_the_critical_p(m):
    regions = m.johnson_neyman("time", "x")
    bound = float(regions.loc[regions["high_inside"], "high"].iloc[0]) if (
        regions["high_inside"].any()) else float(regions["high"].iloc[0])  # fmt: skip
    assert m.slopes("time", at={"x": bound}).iloc[0]["p_value"] == pytest.approx(0.05, abs=1e-6)


def test_summary_and_paragraph_state_the_structure(m):
    values = m.residual_parameters().set_index("term")
    rho, error = values.loc["rho", ["estimate", "std_error"]]
    paragraph = m.methods_paragraph()
    assert "first-order autoregressive within id over time" in paragraph
    assert f"rho = {rho:.3f} (SE = {error:.3f})" in paragraph
    assert "the log of the residual variance depended on x" in paragraph
    assert "intraclass" not in paragraph
    words = " ".join(m.summary(width=2000).split())
    assert f"correlate {rho:.2f}, twice as far apart {rho**2:.2f}" in words
    percent = 100.0 * np.expm1(values.loc["log_variance(x)", "estimate"])
    assert f"{abs(percent):.1f}% {'larger' if percent > 0 else 'smaller'} for x" in words


def test_table_has_a_heading_for_each_structure(m, frame):
    plain = mlm.fit("y ~ time * x + (1 | id)", frame)
    cs = mlm.fit("y ~ time * x", frame, residual="cs(1 | id)")
    table = mlm.table([plain, m, cs])
    cells = {row[0].strip(): row[1:] for row in table.grid.rows if row[0]}
    rho = m.residual_parameters().set_index("term")["estimate"]["rho"]
    heads = [row[0] for row in table.grid.rows]
    at = heads.index("Residuals: first-order autoregressive within id")
    assert table.grid.rows[at + 1] == ("  rho", "", f"{rho:.3f}", "")
    other = heads.index("Residuals: compound symmetry within id")
    assert table.grid.rows[other + 1][3] != ""
    assert cells["residual variance"][1] == f"{m.residual_variance:.3f}"


def test_report_in_every_format_and_pictures(m, tmp_path):
    for suffix in ("md", "html", "tex", "docx"):
        written = m.report(tmp_path / f"fit.{suffix}", pictures=False)
        assert written.stat().st_size > 2000
    text = (tmp_path / "fit.md").read_text()
    assert "Intervals of residual parameters" in text
    assert "Residual structure" in text
    for name in ("autocorrelation", "residuals", "caterpillar", "slopes", "spaghetti"):
        options = {"predictor": "time"} if name == "spaghetti" else {}
        m.plot(name, **options).save(tmp_path / f"{name}.png", verbose=False, dpi=50)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    picture = m.plot("profile", components=["residual"])
    assert "residual" in str(picture.data["panel"].iloc[0])
    assert m.plot("piles", models=[m]).data is not None
    with pytest.raises(InferenceError, match="components must be among"):
        m.plot("profile", components=["rho"])


def test_autocorrelation_of_residuals_entry_by_entry(m, frame):
    table = m.residual_autocorrelation()
    z = m.residuals("normalised")
    for lag, n, r, half in table.loc[
        table["kind"] == "normalised", ["lag", "n_pairs", "correlation", "semivariance"]
    ].to_numpy():
        pairs = [
            (z[i], z[j])
            for i in range(len(z))
            for j in range(len(z))
            if frame["id"][i] == frame["id"][j] and frame["time"][j] - frame["time"][i] == lag
        ]
        one, two = np.array(pairs).T
        assert n == len(pairs)
        assert r == pytest.approx(one @ two / np.sqrt(one @ one * (two @ two)))
        assert half == pytest.approx(np.mean((one - two) ** 2) / 2.0)


def test_time_is_found_in_a_plain_fit(frame):
    plain = mlm.fit("y ~ time + x + (1 | id)", frame)
    assert [one.name for one in time_columns(plain.design)] == ["time"]
    found = plain.residual_autocorrelation()
    named = plain.residual_autocorrelation(time="time", group="id")
    assert found.equals(named)
    with pytest.raises(InferenceError, match="numeric predictor"):
        plain.residual_autocorrelation(time="week")
    hsb = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
    assert time_columns(hsb.design) == ()
    with pytest.raises(InferenceError, match="orders the rows"):
        hsb.plot("autocorrelation")


def test_continuous_distances_are_binned():
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(20, dtype=np.int32), 30)
    time = rng.uniform(0.0, 10.0, size=600)
    z = rng.normal(size=600)
    found = lag_correlations(z, codes, time)
    assert len(found) == 20
    assert sum(one.n_pairs for one in found) == 20 * 30 * 29 // 2
    assert np.mean([abs(one.correlation) < one.bound for one in found]) > 0.7
    assert np.mean([one.semivariance for one in found]) == pytest.approx(1.0, abs=0.1)


def test_command_line(frame, tmp_path, capsys):
    path = tmp_path / "d.csv"
    frame.to_csv(path, index=False)
    words = ["fit", str(path), "y ~ time + x + (1 | id)"]
    assert main([*words, "--residual", "ar1(time | id)", "--scale", "~ x"]) == 0
    out = capsys.readouterr().out
    assert "first-order autoregressive" in out
    assert "log_variance(x)" in out
    assert main([*words, "--residual", "nonsense(time | id)"]) == 2
    assert "arma11" in capsys.readouterr().err
