"""The joint Laplace engine equals other engines where both apply, and glmmTMB at its estimates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from multilevel.estimate.prepare import prepare
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.crossed import CrossedLaplace
from multilevel.likelihood.generalized.families.catalogue import row_likelihood
from multilevel.likelihood.generalized.nested import NestedLaplace
from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.row import Response
from multilevel.likelihood.generalized.storage_choice import STORAGES
from multilevel.model.covariance.structures import factor_map
from multilevel.model.families.catalogue import family_of
from tests.support.designs import design_of
from tests.support.laplace_oracle import random_problem, random_psi
from tests.support.oracle import random_rows
from tests.support.row_families import FAMILIES, Gauss

DATA = Path(__file__).resolve().parents[3] / "data"
REFERENCES = json.loads((DATA / "glmm.json").read_text("utf-8"))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("kind", ["one", "three"])
def test_one_factor_equals_the_nested_engine(kind, family, storage):
    problem = random_problem(kind, family)
    psi = random_psi(problem, scale=0.6)
    joint, nested = CrossedLaplace(problem, storage), NestedLaplace(problem)
    assert joint.value(psi) == pytest.approx(nested.value(psi), rel=1e-10)
    assert joint.gradient() == pytest.approx(nested.gradient(), rel=1e-7, abs=1e-7)
    assert joint.modes()[0] == pytest.approx(nested.modes()[0], abs=1e-7)
    assert joint.mode_covariance(0) == pytest.approx(nested.mode_covariance(0), abs=1e-7)
    ours, theirs = joint.cluster_scores(), nested.cluster_scores()
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("kind", ["nested_slopes", "crossed", "crossed3", "mixed"])
def test_gaussian_responses_give_the_exact_criterion(kind):
    rows = random_rows(kind, 6)
    gaussian = prepare(design_of(rows), method="ml").objective()
    rng = np.random.default_rng(2)
    theta = rng.uniform(0.3, 1.0, gaussian.n_parameters)
    profile = gaussian.set(theta)
    blocks = tuple(
        EffectBlock(
            codes.astype(np.int32),
            int(codes.max()) + 1,
            np.asfortranarray(columns),
            (0,) * columns.shape[1],
            factor_map(((columns.shape[1], "unstructured"),)),
        )
        for codes, columns in rows.blocks
    )
    fixed = (FixedPart(np.asfortranarray(rows.X)), FixedPart(np.ones((len(rows.y), 1))))
    problem = GeneralizedProblem(Response(rows.y), fixed, blocks, Gauss)
    joint = CrossedLaplace(problem)
    # the Gaussian problem is scaled inside; its criterion at its own optimum of beta and sigma is
    # reached here by Newton steps in beta and log sigma
    scaling = prepare(design_of(rows), method="ml").scaling
    sigma = np.sqrt(profile.sigma2)
    psi = np.zeros(problem.n_parameters)
    at = 0
    for s, (_, columns), B in zip(problem.theta_slices, rows.blocks, scaling.random, strict=True):
        q = columns.shape[1]
        L = np.zeros((q, q))
        size = q * (q + 1) // 2
        L[np.tril_indices(q)] = theta[at : at + size]
        at += size
        absolute = B @ L * sigma / scaling.first[-1, -1]
        root = np.linalg.qr(absolute.T)[1].T
        psi[s] = root[np.tril_indices(q)]
    p = problem.n_fixed - 1
    psi[p] = np.log(sigma / scaling.first[-1, -1])
    joint.value(psi)
    information = joint.information()[:p, :p]
    psi[:p] += np.linalg.solve(information, -0.5 * joint.gradient()[:p])
    value = joint.value(psi)
    shift = 2.0 * len(rows.y) * np.log(scaling.first[-1, -1])
    assert value + shift == pytest.approx(profile.criterion, rel=1e-10)
    assert joint.gradient()[:p] == pytest.approx(0.0, abs=1e-7)


def _table(name):
    frame = pd.read_csv(DATA / f"{name}.csv.gz")
    if name == "grouseticks":
        frame["cHEIGHT"] = (frame.HEIGHT - frame.HEIGHT.mean()) / 100
    return frame


def _verbagg(d):
    columns = [d.Anger, d.Gender == "M", d.btype == "scold", d.btype == "shout", d.situ == "self"]
    return (d.r2 == "Y"), columns, ("id", "item")


def _ticks(d):
    return d.TICKS, [d.YEAR == 96, d.YEAR == 97, d.cHEIGHT], ("INDEX", "BROOD", "LOCATION")


def _arabidopsis(d):
    rich, clipped = d.nutrient == 8, d.amd == "unclipped"
    columns = [rich, clipped, d.rack == 2, d.status == "Petri.Plate", d.status == "Transplant"]
    return d["total.fruits"], [*columns, rich & clipped], ("gen", "popu")


CASES = {"VerbAgg": (3, _verbagg), "grouseticks": (6, _ticks), "Arabidopsis": (8, _arabidopsis)}


def _at_reference(name):
    index, columns_of = CASES[name]
    reference = REFERENCES[index]
    assert reference["data"] == name
    fit, frame = reference["fits"]["laplace"], _table(name)
    y, columns, groups = columns_of(frame)
    X = np.column_stack([np.ones(len(frame)), *columns]).astype(float)
    names = {"nbinom2": "negative_binomial"}
    family = family_of(names.get(reference["family"], reference["family"]))
    fixed, psi = [FixedPart(np.asfortranarray(X))], list(fit["fixef"].values())
    if family.name == "negative_binomial":
        fixed.append(FixedPart(np.ones((len(frame), 1))))
        psi.append(-np.log(fit["sigma"]))
    blocks = []
    for group in groups:
        codes = pd.factorize(frame[group])[0].astype(np.int32)
        one = factor_map(((1, "unstructured"),))
        ones = np.ones((len(frame), 1), order="F")
        blocks.append(EffectBlock(codes, int(codes.max()) + 1, ones, (0,), one))
        psi.append(np.sqrt(fit["G"][group][0][0]))
    problem = GeneralizedProblem(
        Response(y.to_numpy(float)),
        tuple(fixed),
        tuple(blocks),
        lambda response, order, random: row_likelihood(family, response, order, random),
    )
    return problem, np.array(psi), fit


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_criterion_is_that_of_glmmtmb_at_its_estimates(name):
    problem, psi, fit = _at_reference(name)
    objective = make_objective(problem)
    assert isinstance(objective, CrossedLaplace)
    assert objective.value(psi) == pytest.approx(fit["minus2ll"], abs=1e-6)
    # what is left to gain: a Newton step with the working information
    step = np.linalg.solve(objective.information(), -0.5 * objective.gradient())
    errors = np.array(list(fit["se"].values()))
    assert np.abs(step[: len(errors)] / errors).max() < 1e-3
    assert 0.5 * abs(objective.gradient() @ step) < 1e-6
