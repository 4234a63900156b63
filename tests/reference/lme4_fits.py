"""The reference fits by lme4 and our fits of the same models, with names matched.

Names differ between the programs: lme4 writes ``sectorPublic`` and ``cask:batch`` where we write
``sector[Public]`` and ``batch:cask``. Both sides are brought to one canonical form here, so that
values are compared by name and never by position.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"

#: Columns that were factors in R although they look like numbers (see the R script).
CATEGORICAL = ("service", "recipe", "temperature", "replicate", "cask", "batch", "Machine")

REFERENCES = json.loads((DATA / "lmm.json").read_text("utf-8"))


def label(reference) -> str:
    return f"{reference['data']}-{reference['method']}-{reference['formula']}"


@cache
def table(name: str) -> pd.DataFrame:
    frame = pd.read_csv(DATA / f"{name}.csv.gz")
    for column in CATEGORICAL:
        if column in frame:
            frame[column] = frame[column].astype(str).astype("category")
    return frame


@cache
def fitted(name: str, formula: str, method: str) -> mlm.MultilevelFit:
    # A singular optimum is the right answer for some of these data; the flag is tested.
    return mlm.fit(formula, table(name), method=method.lower())


def ours(reference) -> mlm.MultilevelFit:
    return fitted(reference["data"], reference["formula"], reference["method"])


def criterion(fit: mlm.MultilevelFit, method: str) -> float:
    return fit.reml_criterion if method == "REML" else fit.minus2_loglik


def column_key(name: str) -> frozenset[str]:
    """``cses:sector[T.Public]`` and ``sectorPublic:cses`` are the same column."""
    return frozenset(re.sub(r"\[(?:T\.)?(.*)\]$", r"\1", part) for part in name.split(":"))


def group_key(name: str) -> frozenset[str]:
    """``batch:cask`` and ``cask:batch`` are the same factor."""
    return frozenset(name.split(":"))


def by_key(values, key):
    """``{key(name): value}``, with a check that no two names collide."""
    out = {key(name): value for name, value in values.items()}
    assert len(out) == len(values)
    return out


@dataclass(frozen=True)
class Components:
    """Variance components of lme4 by canonical names."""

    variances: dict = field(default_factory=dict)  # (group, column) -> variance
    covariances: dict = field(default_factory=dict)  # (group, column, column) -> covariance
    residual: float = 0.0


def components(reference) -> Components:
    out, residual = Components(), 0.0
    for row in reference["varcorr"]:
        if row["grp"] == "Residual":
            residual = row["vcov"]
            continue
        # lme4 numbers the independent terms of one factor: Subject, Subject.1
        group = group_key(re.sub(r"\.\d+$", "", row["grp"]))
        if "var2" in row:
            names = (column_key(row["var1"]), column_key(row["var2"]))
            out.covariances[(group, *names)] = row["vcov"]
        else:
            out.variances[group, column_key(row["var1"])] = row["vcov"]
    return Components(out.variances, out.covariances, residual)
