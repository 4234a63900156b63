from __future__ import annotations

import json

import numpy as np
import pytest

from multilevel.estimate.records import RedundantDirection
from multilevel.report.json import fit_json
from tests.unit.report import hand

KEYS = {
    "formula",
    "family",
    "method",
    "n",
    "groups",
    "n_par",
    "aic",
    "bic",
    "fixed",
    "random",
    "residual_variance",
    "icc",
    "design_effect",
    "r2",
    "status",
    "is_singular",
    "certificate",
    "seconds",
    "advice",
}


def round_trip(fit, design):
    return json.loads(json.dumps(fit_json(fit, design), allow_nan=False))


@pytest.mark.parametrize(("method", "key"), [("ml", "minus2_loglik"), ("reml", "reml_criterion")])
def test_keys_are_exactly_these(method, key):
    out = round_trip(*hand.cross_level_model(method))
    assert set(out) == KEYS | {key}
    assert out[key] == 100.0
    assert out["groups"] == {"school": 12}
    assert (out["n"], out["n_par"], out["family"], out["method"]) == (60, 8, "gaussian", method)


def test_fixed_and_random_carry_full_precision():
    fit, design = hand.cross_level_model()
    out = round_trip(fit, design)
    assert [set(r) for r in out["fixed"]] == [{"term", "estimate", "std_error"}] * 4
    assert [r["estimate"] for r in out["fixed"]] == list(fit.beta)
    assert [r["std_error"] for r in out["fixed"]] == list(np.sqrt(np.diag(fit.vcov_beta)))
    rows = {(r["term"], r["term2"]): r for r in out["random"]}
    assert set(rows) == {("(Intercept)", None), ("ses", None), ("(Intercept)", "ses")}
    assert rows["ses", None]["variance_or_covariance"] == 0.25
    assert rows["ses", None]["sd_or_correlation"] == 0.5
    assert rows["(Intercept)", "ses"]["variance_or_covariance"] == -0.3
    assert rows["(Intercept)", "ses"]["sd_or_correlation"] == pytest.approx(-0.3)
    assert out["residual_variance"] == 36.0


def test_what_does_not_exist_is_null():
    certificate = hand.certificate(
        "not_certified", newton_decrement=float("nan"), history=(3.0, float("inf"))
    )
    fit, design = hand.cross_level_model(certificate=certificate)
    G = np.diag([4.0, 0.0])
    fit = hand.fit(design, fit.beta, [0.1] * 4, [G], 36.0, certificate=certificate)
    out = round_trip(fit, design)
    assert out["certificate"]["newton_decrement"] is None
    assert out["certificate"]["boundary_residual"] is None
    assert out["certificate"]["history"] == [3.0, None]
    pair = next(r for r in out["random"] if r["term2"])
    assert pair["sd_or_correlation"] is None
    assert out["status"] == "not_certified"
    assert out["advice"][0]["severity"] == "error"


def test_singular_fits_are_flagged():
    direction = RedundantDirection("school", {"ses": 1.0}, "No slope variance.")
    certificate = hand.certificate("singular", redundant=(direction,))
    out = round_trip(*hand.cross_level_model(certificate=certificate))
    assert out["is_singular"] is True
    assert out["certificate"]["redundant"][0]["weights"] == {"ses": 1.0}
    assert round_trip(*hand.cross_level_model())["is_singular"] is False


def test_effect_sizes_by_hand():
    fit, design = hand.cross_level_model()
    out = round_trip(fit, design)
    block, G = design.blocks[0], fit.random_covariance[0]
    between = np.mean([z @ G @ z for z in block.columns])
    icc = between / (between + fit.sigma2)
    assert out["icc"] == {"school": pytest.approx(icc)}
    sizes = np.bincount(block.codes)
    size = (sizes**2).sum() / sizes.sum()
    effect = out["design_effect"]["school"]
    assert effect["cluster_size"] == pytest.approx(size)
    assert effect["estimate"] == pytest.approx(1 + (size - 1) * icc)
    assert effect["effective_n"] == pytest.approx(design.n / effect["estimate"])
    f = (design.X @ fit.beta).var()
    total = f + between + fit.sigma2
    assert out["r2"]["marginal"] == pytest.approx(f / total)
    assert out["r2"]["conditional"] == pytest.approx((f + between) / total)
    r = np.corrcoef(design.y, design.X @ fit.beta)[0, 1]
    assert out["r2"]["total"] == pytest.approx(r**2)
