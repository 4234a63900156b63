"""Tails and quantiles equal scipy.stats, and the door does not load it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from multilevel.infer import distributions as d

X = np.linspace(-6.0, 60.0, 45)


@pytest.mark.parametrize("df", [1.0, 2.5, 40.0, 1e5])
def test_tails_and_quantiles(df):
    p = np.array([1e-4, 0.3, 0.975])
    for ours, theirs in (
        (d.normal_tail(X), stats.norm.sf(X)),
        (d.log_normal_tail(X), stats.norm.logsf(X)),
        (d.normal_quantile(p), stats.norm.ppf(p)),
        (d.t_tail(X, df), stats.t.sf(X, df)),
        (d.t_quantile(p, df), stats.t.ppf(p, df)),
        (d.f_tail(X, 3.0, df), stats.f.sf(X, 3.0, df)),
        (d.f_quantile(p, 3.0, df), stats.f.ppf(p, 3.0, df)),
        (d.chi_square_tail(X, df), stats.chi2.sf(X, df)),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-300)


def test_a_fit_does_not_wait_for_scipy_stats():
    code = (
        "import sys, multilevel as mlm;"
        "print(mlm.fit('mathach ~ ses + (1 | school)', mlm.load_hsb()));"
        "sys.exit('scipy.stats' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
