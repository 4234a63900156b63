from __future__ import annotations

import contextlib
import re

import pytest

import multilevel
from multilevel.cli import demo, warmup
from multilevel.cli.main import main
from multilevel.estimate.choose import ENGINES


@pytest.fixture(scope="module")
def pages():
    return list(demo.steps(lambda _: contextlib.nullcontext()))


def flat(text: str) -> str:
    return " ".join(text.split())


def numbers(text: str, *start: str) -> list[float]:
    line = next(x for x in text.splitlines() if x.split()[: len(start)] == list(start))
    return [float(v) for v in line.split()[len(start) :] if not v.startswith("<")]


def test_the_ladder_is_complete_and_readable(pages):
    assert len(pages) == 2 + len(demo.LADDER) + 1
    assert max(len(line) for page in pages for line in page.splitlines()) <= 80
    for page, step in zip(pages[2:-1], demo.LADDER, strict=True):
        assert step.question in page
        assert step.formula in flat(page)
        assert "How to read it" in page
    assert "5 of 5 fits are shown to be at their optimum." in pages[-1]


def test_each_number_is_that_of_the_fit(pages):
    hsb = multilevel.load_hsb()
    for page, step in zip(pages[2:-1], demo.LADDER, strict=True):
        result = multilevel.fit(step.formula, hsb, method="ml")
        table = page[page.index("Model for the variance") :]
        residual = float(result.fit.sigma2)
        assert numbers(table, "Residual")[0] == pytest.approx(residual, rel=1e-3)
        criterion = f"{result.fit.criterion:.2f}"
        assert criterion in page


def test_the_published_empty_model(pages):
    # Hsb82 by ML, as in lme4: intercept 12.637, school variance 8.553, residual 39.148
    page = pages[2]
    assert numbers(page, "(Intercept)")[0] == pytest.approx(12.637, abs=1e-3)
    assert numbers(page, "school", "(Intercept)")[0] == pytest.approx(8.553, abs=2e-3)
    assert numbers(page, "Residual")[0] == pytest.approx(39.148, abs=2e-3)


def test_sums_in_the_sentences_are_right(pages):
    within, between = 2, 3
    text = flat(pages[2 + within])
    a, b, c = map(float, re.search(r"Contextual effect: (\S+) - (\S+) = (\S+?)\. ", text).groups())
    assert a - b == pytest.approx(c, abs=1e-3)
    assert "95% of the levels of school are predicted to have slopes" in flat(pages[2 + between])
    last = flat(pages[-2])
    a, sign, b, c = re.search(r"it is (\S+) ([+-]) (\S+) = (\S+) \(", last).groups()
    assert float(a) + float(sign + b) == pytest.approx(float(c), abs=1e-3)


def test_the_command_prints_all_pages(capsys):
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [f"Model {k} of 5" in out for k in range(1, 6)] == [True] * 5


def test_warmup_fits_every_kind(capsys):
    assert main(["warmup"]) == 0
    out = capsys.readouterr().out
    for kind, _, _ in warmup._KINDS:
        assert re.search(rf"{kind} +\d+\.\d\d s", out)


def test_warmup_covers_every_compiled_engine_but_the_iterative_one():
    assert {engine for _, _, engine in warmup._KINDS} == set(ENGINES) - {"small", "iterative"}
