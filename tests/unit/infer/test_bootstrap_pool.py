"""Processes, progress and seeds change nothing but the time."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import multilevel as mlm
from multilevel.api.progress import teller
from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare
from multilevel.infer.bootstrap import bootstrap
from multilevel.infer.bootstrap_intervals import limits
from multilevel.infer.bootstrap_refits import Refits, lean
from multilevel.likelihood.blocks.threads import idle_cores
from tests.support.designs import design_of
from tests.support.oracle import random_rows

SCRIPT = """
import numpy as np
import multilevel as mlm
rng = np.random.default_rng(0)
g = np.repeat(np.arange(8), 5)
m = mlm.fit("y ~ 1 + (1 | g)", {"y": rng.standard_normal(40) + g, "g": g}, advice=False)
m.bootstrap(4, workers=2)
"""


def problem(kind="crossed", seed=2):
    prepared = prepare(design_of(random_rows(kind, seed, True)), method="reml")
    return prepared, solve(prepared)


def run(n_boot=12, k=5, **options):
    return bootstrap(*problem(), n_boot, np.random.SeedSequence(k), **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parametric", "pigeonhole"])
def test_workers_change_nothing(kind):
    told = []
    alone = run(kind=kind)
    for workers in (2, 3):
        shared = run(
            kind=kind, workers=workers, progress=lambda done, total: told.append((done, total))
        )
        assert shared.status == alone.status
        assert np.array_equal(shared.beta, alone.beta, equal_nan=True)
        assert np.array_equal(shared.criterion, alone.criterion, equal_nan=True)
        for a, b in zip(shared.covariances, alone.covariances, strict=True):
            assert np.array_equal(a, b, equal_nan=True)
        assert shared.sentence == alone.sentence
    assert told == [(k, 12) for k in range(1, 13)] * 2


@pytest.mark.slow
def test_workers_that_cannot_start_are_explained(tmp_path: Path):
    """A script without a main guard: new processes would run it again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.returncode != 0
    last = done.stderr[done.stderr.rindex("InferenceError") :]
    assert "Worker processes must be able to start" in last
    assert "__name__ == '__main__'" in last


def test_replicates_do_not_depend_on_how_many_there_are():
    few, many = run(4), run(9)
    assert np.array_equal(few.beta, many.beta[:4])
    prepared, fit = problem("slope")
    a = bootstrap(prepared, fit, 5, np.random.SeedSequence(1), batched=True)
    b = bootstrap(prepared, fit, 30, np.random.SeedSequence(1), batched=True)
    assert a.beta == pytest.approx(b.beta[:5], abs=1e-9)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "two"])
def test_workers_is_a_count(workers):
    with pytest.raises(InferenceError, match="workers must be"):
        run(workers=workers)


def test_what_is_sent_is_small():
    """One grouping factor, parametric: no rows are sent; elsewhere rows, each array once."""
    m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb(), advice=False)
    sent = pickle.dumps(lean(Refits.of([m._prepared], [m.fit], "parametric")))
    assert len(sent) < m.design.n * 8
    by_rows = pickle.dumps(lean(Refits.of([m._prepared], [m.fit], "cluster")))
    assert len(by_rows) < 8 * m.design.n * 8  # y, X, column, code, kept, code of the draw


@pytest.mark.parametrize("kind", ["parametric", "residual", "cluster"])
def test_what_is_sent_gives_the_same(kind):
    prepared, fit = problem("slope", seed=7)
    refits = Refits.of([prepared], [fit], kind)
    back = pickle.loads(pickle.dumps(lean(refits)))
    found = [(back.one(s), refits.one(s)) for s in np.random.SeedSequence(3).spawn(25)]
    assert {"ok", "singular"} <= {sent.status for sent, _ in found}
    for sent, kept in found:
        assert sent.status == kept.status
        assert np.array_equal(sent.estimates.beta, kept.estimates.beta)


def test_progress_counts_up(monkeypatch):
    told = []
    run(6, progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 6) for k in range(1, 7)]
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    line = teller(True, "bootstrap")
    for k in range(1, 101):
        line(k, 100)
    assert screen.getvalue().splitlines() == [f"bootstrap: {k} of 100" for k in range(10, 101, 10)]
    assert teller(None, "x") is None
    assert teller(False, "x") is None
    with pytest.raises(InferenceError, match="progress must be"):
        teller("yes", "x")


def test_a_terminal_has_one_line(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    line = teller(True, "bootstrap")
    for k in range(1, 4):
        line(k, 3)
    assert screen.getvalue() == ("\rbootstrap: 1 of 3\rbootstrap: 2 of 3\rbootstrap: 3 of 3\n")


def test_bias_corrected_limits():
    """A monotone map of normal draws off by a constant: the correction is exact (Efron 1987)."""
    z = np.random.default_rng(0).standard_normal(200_000)
    drawn = np.exp(0.5 + 0.3 * (z + 0.4))  # the estimate is exp(0.5), the bias 0.4 SD
    found = limits(drawn, float(np.exp(0.5)), 0.9, "bias-corrected")
    q = 1.6448536269514722
    assert np.log(found.low) == pytest.approx(0.5 + 0.3 * (-q - 0.4), abs=5e-3)
    assert np.log(found.high) == pytest.approx(0.5 + 0.3 * (q - 0.4), abs=5e-3)
    plain = limits(drawn, float(np.exp(0.5)), 0.9, "percentile")
    assert np.log(plain.high) == pytest.approx(0.5 + 0.3 * (q + 0.4), abs=5e-3)
    beyond = limits(drawn[:100], 1e-9, 0.9, "bias-corrected")
    assert beyond.low == pytest.approx(drawn[:100].min(), abs=0.2)


def test_a_ceiling_on_threads_holds(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert idle_cores() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert idle_cores() >= 1
