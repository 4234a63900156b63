"""``multilevel fit`` with outcomes that are not normal."""

from __future__ import annotations

import json

import pytest

from multilevel.cli.arguments import build_parser
from multilevel.cli.main import main
from multilevel.cli.outcome import outcome_options
from tests.unit.report.generalized_fits import data

EVERYTHING = (
    "--family nbinom2 --link log --trials n --exposure e --frequency-weights w --dispersion ~x"
    " --zero ~z --hurdle ~h --thresholds ~t --truncated --n-quad 9,5 --accuracy auto"
    " --penalty slopes --penalty variances --categories low,2,3.5 --event 1"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("outcomes") / "rows.csv"
    table = data().assign(hours=data().t / 2.0, one=1, coded=(data().bin == "yes") * 1.0)
    table.loc[0, "coded"] = None
    table.to_csv(path, index=False)
    return str(path)


def ran(capsys, *arguments):
    code = main(["fit", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def as_json(capsys, *arguments):
    code, out, _ = ran(capsys, *arguments, "--json", "--accuracy", "none")
    assert code == 0
    return json.loads(out)


def test_help_shows_outcomes_and_where_people_come_from(capsys):
    assert main(["fit", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("--family", "--event", "--n-quad", "glmer(", "melogit", "glimmix", "--hurdle"):
        assert word in text


def test_only_what_was_said_is_handed_on():
    parser = build_parser()
    plain = parser.parse_args(["fit", "d.csv", "y ~ 1"])
    assert outcome_options(plain) == {}
    assert plain.method is None
    full = parser.parse_args(["fit", "d.csv", "y ~ 1", *EVERYTHING.split()])
    assert outcome_options(full) == {
        "family": "nbinom2", "link": "log", "trials": "n", "exposure": "e",
        "frequency_weights": "w", "dispersion": "~x", "zero": "~z", "hurdle": "~h",
        "thresholds": "~t", "truncated": True, "n_quad": (9, 5), "accuracy": "auto",
        "penalty": ["slopes", "variances"], "categories": ["low", 2, 3.5], "event": 1,
    }  # fmt: skip


def test_probit_with_a_named_event(file, capsys):
    code, out, err = ran(
        capsys, file, "bin ~ x + (1 | g)", "--family", "binomial", "--link", "probit", "--event",
        "no", "--n-quad", "9",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "binomial (probit link)" in out
    assert "Modelled: the probability that bin = no (against yes)." in out
    assert "9 points" in out


def test_event_of_a_numeric_column_with_missing_values(file, capsys):
    found = as_json(capsys, file, "coded ~ x + (1 | g)", "--family", "binomial", "--event", "0")
    assert found["response"] == "modelled: the probability that coded = 0 (against 1)"
    assert found["n"] == 479


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--family", "poisson", "--zero", "~ x"], "zero"),
        (["--family", "poisson", "--hurdle", "~ x"], "zero"),
        (["--family", "negative_binomial", "--dispersion", "~ x"], "dispersion"),
    ],
)
def test_parts_with_their_own_formula(file, capsys, arguments, part):
    found = as_json(capsys, file, "zi ~ x + (1 | g)", *arguments)
    assert [p["name"] for p in found["parts"]][-1] == part
    assert [c["term"] for c in found["parts"][-1]["coefficients"]] == ["(Intercept)", "x"]
    assert set(found["approximation"]) >= {"method", "n_quad", "error_estimate"}


def test_ordered_categories_from_text_and_from_numbers(file, capsys):
    words = as_json(
        capsys, file, "ordt ~ x + (1 | g)", "--family", "cumulative", "--categories",
        "no, perhaps, yes, sure",
    )  # fmt: skip
    numbers = as_json(
        capsys, file, "ord ~ x + (1 | g)", "--family", "cumulative", "--categories", "1,2,3,4"
    )
    assert words["categories"] == ["no", "perhaps", "yes", "sure"]
    assert words["minus2_loglik"] == pytest.approx(numbers["minus2_loglik"], abs=1e-9)
    free = as_json(
        capsys, file, "ord ~ w + (1 | g)", "--family", "cumulative", "--thresholds", "~ x"
    )
    assert len(free["parts"]) == 4


def test_trials_exposure_frequency_weights_and_truncation(file, capsys):
    trials = as_json(capsys, file, "s ~ x + (1 | g)", "--family", "binomial", "--trials", "t")
    both = as_json(capsys, file, "cbind(s, f) ~ x + (1 | g)", "--family", "binomial")
    assert trials["minus2_loglik"] == pytest.approx(both["minus2_loglik"], abs=1e-8)
    rate = as_json(capsys, file, "pois ~ x + (1 | g)", "--family", "poisson", "--exposure", "hours")
    assert "offset(log(hours))" in rate["formula"]
    same = as_json(
        capsys, file, "pois ~ x + (1 | g)", "--family", "poisson", "--frequency-weights", "one"
    )
    plain = as_json(capsys, file, "pois ~ x + (1 | g)", "--family", "poisson")
    assert same["minus2_loglik"] == pytest.approx(plain["minus2_loglik"], abs=1e-8)
    cut = as_json(capsys, file, "trunc ~ x + (1 | g)", "--family", "poisson", "--truncated")
    assert "zero-truncated" in cut["label"]


def test_penalty_and_accuracy_arrive(file, capsys):
    found = as_json(
        capsys, file, "bin ~ x + (1 | g)", "--family", "binomial", "--penalty", "slopes"
    )
    assert found["penalty"].startswith("t(3, 0, 2.5)")
    code, out, _ = ran(
        capsys, file, "bin ~ x + (1 | g)", "--family", "binomial", "--accuracy", "auto"
    )
    assert code == 0
    assert "more points no longer matter" in " ".join(out.split())


def test_a_report_is_written(file, capsys, tmp_path):
    target = tmp_path / "out.md"
    code, _, err = ran(
        capsys, file, "bin ~ x + (1 | g)", "--family", "binomial", "--report", str(target)
    )
    assert code == 0
    assert "report written" in err
    assert "Methods paragraph" in target.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["bin ~ x + (1 | g)", "--family", "binomal"], "binomial"),
        (["bin ~ x + (1 | g)"], 'family="binomial"'),
        (["bin ~ x + (1 | g)", "--family", "binomial", "--event", "maybe"], "bin has no, yes"),
        (["bin ~ x + (1 | g)", "--family", "binomial", "--method", "reml"], "REML"),
        (["bin ~ x + (1 | g)", "--family", "binomial", "--n-quad", "many"], "--n-quad"),
        (["bin ~ x + (1 | g)", "--family", "binomial", "--n-quad", "0"], "n_quad"),
        (["bin ~ x + (1 | g)", "--family", "binomial", "--engine", "nested"], "engine"),
        (["bin ~ x + (1 | g)", "--family", "binomial", "--df", "satterthwaite"], "df"),
        (["ordt ~ x + (1 | g)", "--family", "cumulative"], "categories="),
        (["zi ~ x + (1 | g)", "--family", "poisson", "--zero", "~ 1", "--hurdle", "~ 1"], "zero"),
        (["y ~ x + (1 | g)", "--zero", "~ 1"], "Zero inflation"),
        (["pos ~ x + (1 | g)", "--family", "binomial"], "0/1"),
    ],
)
def test_what_cannot_be_fitted_is_explained(file, capsys, arguments, word):
    code, out, err = ran(capsys, file, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "What to do:" in err
    assert word in err


def test_gaussian_fits_are_as_before(file, capsys):
    found = as_json_gaussian(capsys, file)
    assert found["method"] == "reml"
    assert found["family"] == "gaussian"


def as_json_gaussian(capsys, file):
    code, out, _ = ran(capsys, file, "y ~ x + (1 | g)", "--json")
    assert code == 0
    return json.loads(out)
