"""What generalized fits say: every family's words, numbers, equations, JSON and documents."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.infer.generalized.natural import natural_parameters, part_tests
from multilevel.report.generalized.equations import equation_records
from multilevel.report.generalized.words import ratio_of
from multilevel.report.mathml import equations_latex, equations_mathml
from tests.unit.report.generalized_fits import CASES, data, fitted

#: Names of the code that no reader should meet.
RAW = re.compile(
    r"\b(threshold \d|[a-z]+_binomial|zero_inflated_|hurdle_[a-z]|zero_one_|"
    r"continuation_ratio|generalized_poisson|inverse_gaussian|nan|None|PartSpec|array\()"
)
EVENTS = {
    "binary": "the probability that bin = yes (against no)",
    "slope": "the probability that bin = yes (against no)",
    "cloglog": "the probability that bin = yes (against no)",
    "trials": "the probability of success in s out of t",
    "successes": "the probability of s (successes), with f as failures",
    "poisson": "the mean of pois",
    "zinb": "the mean of zi without structural zeros, and the probability of a structural zero",
    "hurdle": "the mean of zi before zeros are cut off, and the probability that zi = 0",
    "hurdle_gamma": "the mean of tw where it is not 0, and the probability that tw = 0",
    "truncated": "the mean of trunc before zeros are cut off",
    "lognormal": "the mean of the log of pos",
    "ordered_beta": "the mean of ob between 0 and 1, and the probabilities of exactly 0 and 1",
    "cumulative": "the tendency to higher categories of ordt: no < perhaps < yes < sure",
    "nominal": "perhaps, yes, sure of ordt, each against no (reference)",
}
RATIOS = {
    "binary": "Odds ratio",
    "slope": None,
    "cloglog": "Hazard ratio",
    "trials": "Odds ratio",
    "poisson": "Rate ratio",
    "nb1": "Rate ratio",
    "zinb": "Rate ratio",
    "gamma": "Ratio of means",
    "tweedie": "Ratio of means",
    "lognormal": "Ratio of medians",
    "beta": "Odds ratio",
    "student": None,
    "censored": None,
    "cumulative": "Odds ratio",
    "continuation": None,
    "nominal": "Odds ratio",
}


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", CASES)
def test_every_family_prints_what_a_reader_can_use(name):
    m = fitted(name)
    text = m.summary()
    assert text == repr(m)
    assert m.family.label in flat(text)
    assert "Modelled: " in text
    assert RAW.search(text) is None, RAW.search(text)
    assert max(map(len, text.splitlines())) <= 80
    headings = [s.heading for s in m.sections() if not s.is_empty]
    wanted = ["Outcome", "Equations", "Design", "Fit", "Approximation", "Convergence"]
    assert [h for h in headings if h in wanted] == wanted
    assert any(h.startswith("Model for the variance") for h in headings)
    page = m._repr_html_()
    assert all(h.replace("'", "&#x27;") in page for h in headings)


@pytest.mark.parametrize("name", EVENTS)
def test_what_is_modelled_is_always_named(name):
    m = fitted(name)
    sentence = EVENTS[name].replace("<", "&lt;")
    assert f"Modelled: {EVENTS[name]}." in flat(m.summary())
    assert f"Modelled: {sentence}." in m._repr_html_()
    assert m.to_dict()["response"] == f"modelled: {EVENTS[name]}"
    assert f"The outcome modelled was {EVENTS[name]}." in m.methods_paragraph()


@pytest.mark.parametrize("name", RATIOS)
def test_exponentials_are_named_for_what_they_are(name):
    m = fitted(name)
    ratio = ratio_of(m.design, 0)
    assert (None if ratio is None else ratio.name) == RATIOS[name]
    row = m.to_dict()["fixed"][-1]
    if ratio is None:
        assert "exp(estimate)" not in m.summary()
        assert "ratio" not in row
        return
    assert ratio.plural in m.summary()
    assert row["ratio"] == pytest.approx(math.exp(row["estimate"]), rel=1e-12)
    assert row["ratio_low"] == pytest.approx(math.exp(row["conf_low"]), rel=1e-12)
    assert f"{row['ratio']:.2f}" in m.summary()


@pytest.mark.parametrize("name", CASES)
def test_json_round_trip_and_stable_keys(name):
    m = fitted(name)
    found = json.loads(m.to_json())
    assert found == json.loads(json.dumps(m.to_dict()))
    wanted = {
        "formula", "family", "link", "response", "categories", "method", "n", "groups",
        "approximation", "minus2_loglik", "n_par", "aic", "bic", "fixed", "parts",
        "family_parameters", "random", "icc", "penalty", "status", "is_singular", "certificate",
        "seconds", "advice",
    }  # fmt: skip
    assert wanted <= set(found)
    assert found["minus2_loglik"] == pytest.approx(m.minus2_loglik)
    assert [part["name"] for part in found["parts"]] == [p.spec.name for p in m.design.parts]
    counted = sum(len(part["coefficients"]) for part in found["parts"])
    counted += sum(block.structure.n_parameters for block in m.design.blocks)
    assert counted == found["n_par"]
    keys = {"method", "n_quad", "error_estimate", "error_std_error", "sentence"}
    assert keys <= set(found["approximation"])


def test_the_approximation_carries_its_error():
    formula, options = CASES["binary"]
    m = mlm.fit(formula, data(), n_quad=9, **options)
    how = m.to_dict()["approximation"]
    assert (how["method"], how["n_quad"]) == ("adaptive quadrature", 9)
    assert abs(how["error_estimate"]) < 0.01
    assert how["error_std_error"] == 0.0
    assert how["sentence"] in flat(m.summary())
    assert "with 9 points per random effect (estimated error" in m.methods_paragraph()
    laplace = mlm.fit(formula, data(), n_quad=1, accuracy="none", **options)
    assert laplace.to_dict()["approximation"]["method"] == "Laplace"
    assert laplace.to_dict()["approximation"]["error_estimate"] is None
    assert "Laplace approximation" in laplace.summary()
    assert "by Laplace's approximation." in laplace.methods_paragraph()


@pytest.mark.parametrize("name", ["zinb", "cumulative", "nominal", "student"])
def test_z_tests_are_estimate_over_error(name):
    m = fitted(name)
    for d in range(len(m.design.parts)):
        tests = part_tests(m.design, m.fit, d)
        for row in () if tests is None else tests.rows:
            assert row.statistic == pytest.approx(row.estimate / row.std_error)
            p = math.erfc(abs(row.statistic) / math.sqrt(2.0))
            assert row.p_value == pytest.approx(p, rel=1e-6)
            half = 1.959963984540054 * row.std_error
            assert row.conf_high - row.estimate == pytest.approx(half, rel=1e-9)


def numeric_error(m, value):
    """Delta-method standard error of ``value(psi)`` with a differenced gradient."""
    psi = m.fit.psi
    slope = np.zeros(len(psi))
    for k in range(len(psi)):
        step = np.zeros(len(psi))
        step[k] = 1e-6
        slope[k] = (value(psi + step) - value(psi - step)) / 2e-6
    return math.sqrt(slope @ m.fit.vcov @ slope)


def at(m, part):
    names = [p.spec.name for p in m.design.parts]
    return m.fit.fixed_slices[names.index(part)].start


NATURAL = {
    ("nb2", "alpha"): lambda m: lambda psi: math.exp(psi[at(m, "dispersion")]),
    ("nb2", "1 / alpha"): lambda m: lambda psi: math.exp(-psi[at(m, "dispersion")]),
    ("gamma", "phi"): lambda m: lambda psi: math.exp(psi[at(m, "dispersion")]),
    ("tweedie", "p"): lambda m: lambda psi: 1 + 1 / (1 + math.exp(-psi[at(m, "power")])),
    ("student", "df"): lambda m: lambda psi: math.exp(psi[at(m, "df")]),
    ("student", "residual variance"): lambda m: (
        lambda psi: (
            math.exp(psi[at(m, "dispersion")])
            * math.exp(psi[at(m, "df")])
            / (math.exp(psi[at(m, "df")]) - 2)
        )
    ),
    ("lognormal", "residual SD"): lambda m: lambda psi: math.exp(psi[at(m, "dispersion")] / 2),
    ("zinb_constant", "probability"): lambda m: lambda psi: 1 / (1 + math.exp(-psi[at(m, "zero")])),
    ("ordered_beta", "upper cut"): lambda m: (
        lambda psi: psi[at(m, "lower cut")] + math.exp(psi[at(m, "upper cut")])
    ),
    ("cumulative", "yes|sure"): lambda m: (
        lambda psi: (
            psi[at(m, "threshold 1")]
            + math.exp(psi[at(m, "threshold 2")])
            + math.exp(psi[at(m, "threshold 3")])
        )
    ),
}


@pytest.mark.parametrize("case", NATURAL, ids="-".join)
def test_natural_parameters_and_their_errors(case):
    name, term = case
    m = fitted(name)
    value = NATURAL[case](m)
    (found,) = (p for p in natural_parameters(m.design, m.fit) if p.term == term)
    assert found.estimate == pytest.approx(value(m.fit.psi), rel=1e-12)
    assert found.std_error == pytest.approx(numeric_error(m, value), rel=1e-6)
    assert found.conf_low < found.estimate < found.conf_high


def test_thresholds_are_those_of_the_model_that_estimates_them_directly():
    increasing, free = fitted("cumulative"), fitted("free")
    assert increasing.minus2_loglik == pytest.approx(free.minus2_loglik, abs=1e-6)
    ours = natural_parameters(increasing.design, increasing.fit)
    direct = natural_parameters(free.design, free.fit)
    assert [p.term for p in ours] == ["no|perhaps", "perhaps|yes", "yes|sure"]
    for a, b in zip(ours, direct, strict=True):
        assert a.estimate == pytest.approx(b.estimate, abs=1e-4)
        assert a.std_error == pytest.approx(b.std_error, rel=1e-3)
    assert "Thresholds (on the logit scale)" in increasing.summary()


def test_a_part_that_runs_to_its_limit_has_no_error_and_says_why():
    m = mlm.fit("pois ~ x + (1 | g)", data(), family="poisson", zero="~ 1", n_quad=1)
    assert m.fit.at_limit
    (found,) = m.to_dict()["family_parameters"]
    assert found["std_error"] is None
    assert found["estimate"] < 1e-3
    zero = m.to_dict()["parts"][1]["coefficients"][0]
    assert zero["p_value"] is None
    text = flat(m.summary())
    assert "is estimated as zero: the data need no such part" in text
    assert re.search(r"probability \S+ \. \. \. ", text)


def test_parameters_are_counted_in_words():
    assert "4 parameters: 2 fixed effects of the means, 1 of the dispersion and 1 variance" in (
        flat(fitted("nb2").summary())
    )
    assert "5 parameters: 1 fixed effect of the means, 3 thresholds and 1 variance" in (
        flat(fitted("cumulative").summary())
    )


def test_latent_intraclass_correlation():
    m = fitted("binary")
    tau2 = float(m.fit.random_covariance[0][0, 0])
    expected = tau2 / (tau2 + math.pi**2 / 3)
    assert m.to_dict()["icc"]["g"] == pytest.approx(expected)
    assert m.to_dict()["latent_residual_variance"] == pytest.approx(math.pi**2 / 3)
    assert f"{100 * expected:.1f}% of the variance of the latent response" in flat(m.summary())
    # no latent residual (counts), no latent variable (adjacent), random slopes
    for name in ("nb2", "adjacent", "slope", "hurdle"):
        assert fitted(name).to_dict()["icc"] == {}
        assert "In words" not in fitted(name).summary()
    assert "of the variance of the log response" in flat(fitted("lognormal").summary())


EQUATIONS = {
    "binary": [
        "Level 1:  logit(P(bin_pc = yes)) = beta_0c + beta_1c x_pc",
        "Level 2:  beta_0c = gamma_00 + gamma_01 w_c + U_0c",
        "          beta_1c = gamma_10",
        "p: row, c: g",
    ],
    "successes": [
        "Level 1:  logit(P(s_pc)) = beta_0c + beta_1c x_pc",
        "Level 2:  beta_0c = gamma_00 + U_0c",
        "          beta_1c = gamma_10",
        "p: row, c: g",
    ],
    "zinb": [
        "Level 1:  log(E(zi_pc | not a structural zero)) = beta_0c + beta_1c x_pc",
        "Level 2:  beta_0c = gamma_00 + U_0c",
        "          beta_1c = gamma_10",
        "Zeros:    logit(P(zi is a structural zero)) = zeta_0 + zeta_1 x",
        "p: row, c: g",
        "overdispersion alpha: the variance is mu + alpha mu^2",
    ],
    "hurdle": [
        "Level 1:  log(mu_pc) = beta_0c + beta_1c x_pc",
        "Level 2:  beta_0c = gamma_00 + U_0c",
        "          beta_1c = gamma_10",
        "Zeros:    logit(P(zi = 0)) = zeta_0 + zeta_1 x + W_0[g]",
        "p: row, c: g",
        "mu: expected count before zeros are cut off",
    ],
    "partial": [
        "Categories:  logit(P(ordt_pc <= k)) = tau_k - eta_pc",
        "Level 1:     eta_pc = beta_0c",
        "Level 2:     beta_0c = gamma_01 w_c + U_0c",
        "Thresholds:  tau_k = delta_0,k + delta_1,k x",
        "p: row, c: g",
        "k: no, perhaps and yes",
    ],
    "adjacent": [
        "Categories:  logit(P(ord_pc = k+1 | k or k+1)) = eta_pc - tau_k",
        "Level 1:     eta_pc = beta_0c + beta_1c x_pc",
        "Level 2:     beta_0c = U_0c",
        "             beta_1c = gamma_10",
        "p: row, c: g",
        "k: 1, 2 and 3; k+1: the category above k",
    ],
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_equations_have_the_link_and_no_residual(name):
    assert fitted(name).equations.splitlines() == EQUATIONS[name]


@pytest.mark.parametrize("name", CASES)
def test_equations_in_every_format(name):
    records = equation_records(fitted(name).design)
    mathml, latex = equations_mathml(records), equations_latex(records)
    assert mathml.count("<mtr>") == len(records) == latex.count(" & = & ")
    assert not any(s.name == "e" for e in records for term in e.right for s in term)
    if name in ("cumulative", "adjacent"):
        assert "\u2212" in mathml
        assert " - " in latex
    if name == "cumulative":
        assert "\\tau_{k} - \\eta_{pc}" in latex
        assert "P(\\mbox" not in latex


def test_sign_of_thresholds_agrees_with_the_likelihood():
    # logit(P(y <= k)) = tau_k - eta: raw shares at x near its mean follow the printed equation
    m = fitted("cumulative")
    tau = natural_parameters(m.design, m.fit)[0].estimate
    assert m.fit.beta[0] > 0.0
    y, x = m.design.response.y, m.design.parts[0].X[:, 0]
    assert np.mean(y[x > 0.5]) > np.mean(y[x < -0.5])
    assert abs(1 / (1 + math.exp(-tau)) - np.mean(y == 0)) < 0.1


def test_between_within_df_and_what_does_not_exist():
    m = fitted("binary")
    text = m.summary(df="between-within")
    assert "df" in text.split("Term")[1].splitlines()[0]
    assert m.to_dict(df="between-within")["df_method"] == "between-within"
    assert all(row["df"] is not None for row in m.to_dict(df="between-within")["fixed"])
    with pytest.raises(InferenceError, match="between-within"):
        m.summary(df="satterthwaite")


def test_a_penalty_is_named():
    formula, options = CASES["binary"]
    m = mlm.fit(formula, data(), penalty="slopes", accuracy="none", **options)
    assert "Penalised estimates: t(3, 0, 2.5) on the slopes" in flat(m.summary())
    assert m.to_dict()["penalty"].startswith("t(3, 0, 2.5)")
    assert "The estimates are penalised" in m.methods_paragraph()
    assert "enalised" not in fitted("binary").summary()


@pytest.mark.parametrize("name", ["zinb", "nominal"])
def test_reports_in_every_format(name, tmp_path):
    m = fitted(name)
    event = EVENTS.get(name, EVENTS["cumulative"])
    for suffix in (".html", ".md", ".tex", ".docx"):
        path = m.report(tmp_path / f"{name}{suffix}", pictures=suffix == ".html")
        assert path.stat().st_size > 2000
        if suffix == ".docx":
            import docx

            text = "\n".join(p.text for p in docx.Document(str(path)).paragraphs)
        else:
            text = path.read_text("utf-8")
        assert "Methods paragraph" in text
        if suffix == ".docx":
            assert f"Modelled: {event}." in text
            assert " = " in text
    page = (tmp_path / f"{name}.html").read_text("utf-8")
    assert page.count("data:image/png") == {"zinb": 5, "nominal": 2}[name]
    assert "<math" in page


def test_a_model_without_a_numeric_predictor_has_no_curves(tmp_path):
    m = mlm.fit("bin ~ arm + (1 | g)", data(), family="binomial", accuracy="none")
    page = m.report(tmp_path / "a.html").read_text("utf-8")
    assert page.count("data:image/png") == 2


def test_a_report_holds_effect_sizes_and_says_what_does_not_exist(tmp_path):
    text = fitted("binary").report(tmp_path / "b.md", pictures=False).read_text("utf-8")
    for heading in ("Intraclass correlations", "Ratios averaged over clusters", "Median ratios"):
        assert f"## {heading}" in text
    counts = fitted("hurdle").report(tmp_path / "h.md", pictures=False).read_text("utf-8")
    assert "Not available: A variance within clusters" in counts
    assert "Ratios averaged over clusters" not in counts


@pytest.mark.parametrize("name", ["binary", "zinb", "cumulative"])
def test_summary_and_coefficients_agree(name):
    m = fitted(name)
    table = m.coefficients()
    for row, (_, other) in zip(m.to_dict()["fixed"], table.iterrows(), strict=True):
        assert row["term"] == other["term"]
        for column in ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high"):
            assert row[column] == pytest.approx(other[column], rel=1e-12)


def test_without_random_effects_nothing_is_said_about_them():
    m = mlm.fit("bin ~ x", data(), family="binomial")
    text = flat(m.summary())
    assert text.startswith("Single-level model for bin: binomial (logit link)")
    assert "unit-specific" not in text
    assert "No random effects: a single-level model." in text
    assert m.to_dict()["approximation"]["n_quad"] is None
    assert "integral" not in m.methods_paragraph()


def test_advice_ends_the_summary_unless_it_is_not_wanted():
    m = fitted("binary")
    assert m.advice
    assert [s.heading for s in m.sections() if not s.is_empty][-1] == "Advice"
    assert m.advice[0].mend in flat(m.summary())
    assert [a["code"] for a in m.to_dict()["advice"]] == [a.code for a in m.advice]
    formula, options = CASES["binary"]
    quiet = mlm.fit(formula, data(), accuracy="none", advice=False, **options)
    assert "Advice" not in quiet.summary()
    assert quiet.to_dict()["advice"]


def test_steps_of_accuracy_auto_are_told():
    formula, options = CASES["binary"]
    m = mlm.fit(formula, data(), accuracy="auto", **options)
    assert m.approximation.steps
    for step in m.approximation.steps:
        assert flat(step) in flat(m.summary())


def test_an_expression_as_outcome_stands_in_brackets():
    m = mlm.fit("y > 1 ~ x + (1 | g)", data(), family="binomial", accuracy="none")
    assert m.equations.startswith("Level 1:  logit(P((y > 1)_pc = 1)) = ")


def test_a_report_needs_a_known_suffix(tmp_path):
    with pytest.raises(InferenceError, match=r"\.html"):
        fitted("binary").report(tmp_path / "out.pdf")


def test_models_of_any_family_stand_side_by_side(tmp_path):
    gaussian = mlm.fit("y ~ x + (1 | g)", data(), method="ml")
    table = mlm.table(
        [fitted("nb2"), fitted("zinb"), fitted("nominal"), gaussian],
        names=["nb", "zinb", "nominal", "normal"],
    )
    rows = {row[0].strip(): row[1:] for row in table.grid.rows if row[0].strip()}
    assert rows["alpha"][0] != ""
    assert rows["alpha"][2:] == ("", "")
    assert rows["category perhaps: x"][:2] == ("", "")
    assert rows["residual variance"][:3] == ("", "", "")
    assert rows["residual variance"][3] != ""
    assert any(h.startswith("Model for structural zeros") for h in rows)
    text = flat(table.text())
    assert "zinb: zero-inflated negative binomial (NB2) (log link), adaptive quadrature with 7" in (
        text
    )
    assert "Coefficients on different scales do not compare" in text
    assert table.save(tmp_path / "t.docx").exists()
    alone = mlm.table([gaussian]).text()
    assert "scales" not in alone


def test_crossed_factors_are_one_equation():
    rng = np.random.default_rng(5)
    s, i = np.repeat(np.arange(25), 12), np.tile(np.arange(12), 25)
    eta = rng.normal(0, 1, 25)[s] + rng.normal(0, 0.8, 12)[i]
    y = (rng.random(300) < 1 / (1 + np.exp(-eta))).astype(int)
    m = mlm.fit("y ~ 1 + (1 | s) + (1 | i)", {"y": y, "s": s, "i": i}, family="binomial",
                accuracy="none")  # fmt: skip
    assert m.equations == "logit(P(y = 1)) = gamma_0 + U_0[s] + U_0[i]"
    text = flat(m.summary())
    assert text.startswith("Cross-classified model for y: binomial (logit link)")
    assert "two rows of one s but different i correlate" in text
    assert "Given the predictors" not in text
