from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import multilevel
from multilevel.cli.main import main
from multilevel.model.formula.parse import parse_formula
from multilevel.report.json import fit_json
from multilevel.report.summary import summary_text
from tests.unit.report import hand

FORMULA = "y ~ x + (x | school)"
ESCAPE = "\x1b"


def flat(text: str) -> str:
    return " ".join(text.split())


def run(*arguments, **options):
    command = [sys.executable, "-m", "multilevel.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def untrusted(monkeypatch):
    """Every fit comes back as not certified."""
    from multilevel.api import fit as door

    fit, design = hand.empty_model(certificate=hand.certificate("not_certified"))
    result = SimpleNamespace(
        fit=fit,
        design=design,
        summary=lambda **_: summary_text(fit, design),
        to_dict=lambda **_: fit_json(fit, design),
    )
    monkeypatch.setattr(door, "fit", lambda *_, **__: result)


def test_a_fit_prints_its_summary_and_nothing_else(file, capsys):
    assert main(["fit", str(file), FORMULA]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("Two-level model for y, estimated by REML\n")
    assert "198 of 200 rows used; 2 dropped for missing values: x in 2." in flat(out)
    assert ESCAPE not in out


def test_json_holds_the_numbers_of_the_fit(file, capsys):
    assert main(["fit", str(file), FORMULA, "--json", "--method", "ml"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    result = multilevel.fit(FORMULA, multilevel.read(file).to_pandas().dropna(), method="ml")
    assert found["minus2_loglik"] == pytest.approx(result.fit.criterion, abs=1e-8)
    estimates = [row["estimate"] for row in found["fixed"]]
    assert estimates == pytest.approx(list(result.fit.beta), abs=1e-8)
    assert found["n"] == 198
    assert "Traceback" not in err


def test_options_reach_the_fit(file, capsys):
    def criterion(*options):
        assert main(["fit", str(file), FORMULA, "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)["reml_criterion"]

    plain = criterion()
    assert criterion("--engine", "small") == pytest.approx(plain, abs=1e-6)
    assert abs(criterion("--weights", "w") - plain) > 0.1


def test_verbose_names_the_engine(file, capsys):
    main(["fit", str(file), FORMULA, "--engine", "small", "--verbose"])
    assert "small engine: asked for" in capsys.readouterr().out


def test_rank_deficient_columns_are_dropped_or_refused(file, capsys):
    formula = "y ~ x + twice + (1 | school)"
    assert main(["fit", str(file), formula]) == 0
    assert "Left out, as it adds nothing: twice = 2 * x." in flat(capsys.readouterr().out)
    assert main(["fit", str(file), formula, "--rank-deficient", "refuse"]) == 2
    assert "twice" in capsys.readouterr().err


def test_a_singular_fit_counts_as_done_and_is_explained(tmp_path, capsys):
    # Every school has the same mean, so that no variance is left between schools.
    rows = [f"{k},{value}" for k in range(12) for value in (1.0, 2.0, 4.0, 5.0)]
    path = tmp_path / "same.csv"
    path.write_text("\n".join(["school,y", *rows]), "utf-8")
    assert main(["fit", str(path), "y ~ 1 + (1 | school)"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "boundary" in out
    assert "variance of (Intercept) across school is estimated as exactly zero" in flat(out)
    assert main(["fit", str(path), "y ~ 1 + (1 | school)", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["is_singular"]) == ("singular", True)
    assert found["random"][0]["variance_or_covariance"] == pytest.approx(0.0, abs=1e-12)


def test_a_refusal_is_lifted_by_its_name(tmp_path, capsys):
    path = tmp_path / "w.csv"
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(40), 6)
    w = rng.uniform(0, 2, 40)[g]
    y = rng.standard_normal(40)[g] * (0.5 + w) + rng.standard_normal(240)
    pd.DataFrame({"y": y, "w": w, "g": g}).to_csv(path, index=False)
    arguments = ["fit", str(path), "y ~ w + (w | g)"]
    assert main(arguments) == 2
    assert "random_slope_of_cluster_predictor" in capsys.readouterr().err
    assert main([*arguments, "--allow", "random_slope_of_cluster_predictor"]) == 0


def test_a_fit_that_is_not_to_be_trusted_exits_with_1(file, capsys, untrusted):
    assert main(["fit", str(file), FORMULA]) == 1
    out, err = capsys.readouterr()
    assert "Model for the means" in out
    assert err == "not to be trusted: The verdict is not_certified.\n"
    assert main(["fit", str(file), FORMULA, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "not_certified"


@pytest.mark.parametrize(
    ("data", "formula", "word"),
    [
        ("no_such_file.csv", FORMULA, "no_such_file.csv"),
        (None, "y ~ x + (x | scool)", "school"),
        (None, "y ~ x + (x | school", "^"),
    ],
)
def test_bad_input_exits_with_2_and_three_parts(file, data, formula, word, capsys):
    assert main(["fit", data or str(file), formula]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "\n  Found: " in err
    assert "\n  What to do: " in err
    assert word in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "a.csv", "y ~ 1 + (1|g)", "--method", "pql"],
        ["fit", "a.csv", "y ~ 1 + (1|g)", "--engine", "warp"],
        ["refit", "a.csv"],
        ["describe", "a.csv"],
    ],
)
def test_bad_arguments_exit_with_2(arguments, capsys):
    assert main(arguments) == 2
    assert "usage: multilevel" in capsys.readouterr().err


def test_no_command_shows_the_help_on_standard_error(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "multilevel demo" in err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"multilevel {multilevel.__version__}\n"


def test_every_formula_of_the_help_can_be_read(capsys):
    assert main(["fit", "--help"]) == 0
    text = capsys.readouterr().out
    formulas = re.findall(r'"(.+? ~ .+?)"', text)
    assert len(formulas) >= 10
    for formula in formulas:
        assert parse_formula(formula).random
    assert "exit codes:" in text


def test_describe_in_words_and_as_json(file, capsys):
    arguments = ["describe", str(file), "--outcome", "y", "--clusters", "school"]
    assert main(arguments) == 0
    assert "All 200 rows have y." in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["factors"][0]["n_groups"] == 20
    assert main(["describe", str(file), "--outcome", "z", "--clusters", "school"]) == 2


def test_as_a_program(file):
    done = run("fit", file, FORMULA, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["formula"] == FORMULA
    assert ESCAPE not in done.stdout + done.stderr
    failed = run("fit", file, "y ~ x + (x | scool)")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "Traceback" not in failed.stderr


def test_a_reader_that_goes_away_is_no_traceback(file):
    command = [sys.executable, "-m", "multilevel.cli", "fit", str(file), FORMULA]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        errors = program.stderr.read().decode()
    assert program.returncode == 141
    assert errors == ""


def test_degrees_of_freedom_are_chosen_and_named(file, capsys):
    assert main(["fit", str(file), FORMULA, "--df", "kenward-roger"]) == 0
    out = flat(capsys.readouterr().out)
    assert "Kenward-Roger degrees of freedom" in out
    assert "Term Estimate Std. error df t p" in out
    assert main(["fit", str(file), FORMULA, "--json", "--df", "none"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["df_method"] == "none"
    assert found["fixed"][0]["df"] is None
    assert found["fixed"][0]["conf_low"] < found["fixed"][0]["estimate"]


def test_kenward_roger_of_an_ml_fit_is_bad_input(file, capsys):
    assert main(["fit", str(file), FORMULA, "--method", "ml", "--df", "kenward-roger"]) == 2
    assert "Kenward-Roger is defined for REML fits" in capsys.readouterr().err
