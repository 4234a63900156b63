"""REML-type estimation with random scale effects, and the report on who varies more."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import EstimationError, InferenceError
from multilevel.estimate.generalized.restricted import AdjustedProfile, restrict
from multilevel.likelihood.generalized.choose import make_objective
from tests.support.location_scale_reml import draw, simulate

FORMULA = "y ~ x + w0 + w1 + w2 + (1 | g)"


@lru_cache
def by(method, scale="~ x + (1 | g)"):
    return mlm.fit(FORMULA, draw(3), scale=scale, method=method)


def test_without_random_scale_it_is_reml():
    """d is quadratic in beta there: Laplace's approximation of the integral is exact."""
    plain = mlm.fit(FORMULA, draw(3), scale="~ x", n_quad=1)
    found = restrict(plain._prepared, plain.fit)
    exact = mlm.fit(FORMULA, draw(3), scale="~ x", method="reml")
    assert found.criterion == pytest.approx(exact.reml_criterion, abs=1e-6)
    assert found.random_covariance[0][0, 0] == pytest.approx(
        exact.random_covariance["g"].iloc[0, 0], rel=1e-3
    )
    assert found.beta == pytest.approx(exact.fixed_effects.to_numpy(), abs=1e-4)


def test_the_criterion_is_stationary_and_equals_the_integral():
    found = by("reml")
    objective = make_objective(found._prepared.problem, found.approximation.points)
    unit = np.sqrt(np.diag(found.fit.vcov))
    surface = AdjustedProfile(objective, found.fit.fixed_slices[0], unit)
    psi = found.fit.psi

    def profile(at):
        H = surface._columns(at, surface.beta)[surface.beta]
        return surface.value(surface.profiled(at, H))

    for k in surface.eta:
        shift = np.zeros(len(psi))
        shift[k] = 0.05 * unit[k]
        slope = (profile(psi + shift) - profile(psi - shift)) / 0.1
        assert abs(slope) < 2e-2  # per standard error
    # the integral over beta itself, by importance sampling around its maximum
    rng, b = np.random.default_rng(4), surface.beta
    H = surface._columns(psi, b)[b] / np.outer(unit[b], unit[b])
    C = np.linalg.inv(H / 2.0)
    root, logs = np.linalg.cholesky(C), []
    base = objective.value(psi)
    for _ in range(400):
        z = rng.standard_normal(len(b))
        at = psi.copy()
        at[b] += root @ z
        logs.append(-0.5 * (objective.value(at) - base) + 0.5 * z @ z)
    log_mean = float(np.log(np.mean(np.exp(logs))))
    integral = base - np.linalg.slogdet(C)[1] - len(b) * np.log(2.0 * np.pi) - 2.0 * log_mean
    assert found.reml_criterion == pytest.approx(integral, abs=0.05)


def test_variances_of_few_clusters_are_less_biased():
    used, _ = simulate(6)
    location = used[:, :, 0]
    assert np.all(location[:, 1] > location[:, 0])
    assert abs(location[:, 1].mean() - 1.0) < abs(location[:, 0].mean() - 1.0) + 0.15


def test_what_a_reml_fit_says_and_refuses():
    found = by("reml")
    text = found.summary()
    assert "estimated by REML" in text
    assert "REML-type criterion" in text
    assert "Cox & Reid" in found.methods_paragraph()
    assert found.to_dict()["reml_criterion"] == pytest.approx(found.reml_criterion)
    assert "likelihood-ratio" not in found.variability_paragraph()
    assert len(found.confint()) == len(by("ml").confint())
    for ask in (
        lambda: found.minus2_loglik, found.test_random_scale, found.bootstrap, found.random_tests,
        lambda: found.confint("profile"), lambda: mlm.compare(found, by("ml")),
    ):  # fmt: skip
        with pytest.raises(InferenceError, match="REML-type"):
            ask()


@pytest.mark.parametrize(
    ("options", "match"),
    [({"family": "gamma"}, "family"), ({"family": "t"}, "family")],
)
def test_not_defined_elsewhere(options, match):
    data = draw(3)
    data["y"] = np.exp(data["y"] / 4.0)
    with pytest.raises(EstimationError, match=match):
        mlm.fit("y ~ x + (1 | g)", data, scale="~ x + (1 || g)", method="reml", **options)


def test_who_varies_more_in_every_format(tmp_path):
    found = by("ml")
    text = found.variability_paragraph()
    assert "Clusters of g can differ not only in their level" in text
    assert "likelihood-ratio test of the random scale effect" in text
    assert "Per unit of x the residual variance is" in text
    paragraph = found.methods_paragraph()
    assert "The residual variance was" in paragraph
    assert "residual standard deviation between" in paragraph
    assert json.loads(found.to_json())["variability"]["effects"][1]["term"] == "x"
    for suffix in ("md", "html", "tex", "docx"):
        path = found.report(tmp_path / f"fit.{suffix}", pictures=suffix == "html")
        assert path.stat().st_size > 2000
    written = (tmp_path / "fit.md").read_text(encoding="utf-8")
    for heading in ("Who varies more", "Change of the variance per unit", "Where 95% of clusters"):
        assert heading in written
    assert "Pictures of the variability" in (tmp_path / "fit.html").read_text(encoding="utf-8")
