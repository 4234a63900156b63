"""The judge of structural models: the dense normal density of every cluster's values.

From the parameters that a program returned (level, left side, operator, right side, value) the
equations of each level are written as ``eta = alpha + B eta + Gamma x + zeta``, so that

    eta ~ N(T (alpha + Gamma x), T Psi T')    with T = (I - B)^-1.

A row's outcomes are the sum of the parts of its levels; a slope ``s | y ~ x`` of level 2 adds
``s x`` to the equation of y at level 1, with the observed x. All values of a unit of the highest
level then form one normal vector, whose missing entries are left out (Rockwood 2020; Bauer,
Preacher & Gil 2006 for slopes on an observed mediator).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.columns import Column
from benchmarks.criterion import Estimates
from benchmarks.levels import level_codes
from benchmarks.models import Model

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Equations:
    """One level: its variables, ``alpha`` (m,), ``T`` (m, m), ``Gamma`` (m, k), ``Psi`` (m, m)."""

    names: list[str]
    alpha: Array
    T: Array
    gamma: Array
    covariance: Array

    def where(self, outcomes: tuple[str, ...]) -> Array:
        """Rows of the identity: which variable of this level is a part of which outcome."""
        return np.array([[float(name == out) for name in self.names] for out in outcomes])


def random_slopes(text: str) -> list[tuple[str, str, str]]:
    """``s | y ~ x`` of a text as (s, y, x)."""
    found = []
    for line in text.splitlines():
        if "|" in line:
            name, rest = line.split("|")
            left, right = rest.split("~")
            found.append((name.strip(), left.strip(), right.strip()))
    return found


def equations(parameters: list[tuple[int, str, str, str, float]], level: int, model: Model) -> Any:
    """The equations of one level from the parameters of all."""
    parts = model.structural
    if parts is None:
        raise SystemExit("this judge is for structural models")
    given = parts.given
    own = [row[1:] for row in parameters if row[0] == level and row[2] not in given]
    own = [row for row in own if row[0] not in given]
    mentioned = {a for a, op, _, _ in own} | {b for _, op, b, _ in own if op in ("~~", "=~")}
    mentioned |= {b for _, op, b, _ in own if op == "~" and b not in given}
    names = sorted(mentioned)
    m = len(names)
    at = {name: k for k, name in enumerate(names)}
    alpha, B, Psi = np.zeros(m), np.zeros((m, m)), np.zeros((m, m))
    gamma = np.zeros((m, len(given)))
    for left, op, right, value in own:
        if op == "~1":
            alpha[at[left]] = value
        elif op == "=~":
            B[at[right], at[left]] = value
        elif op == "~~":
            Psi[at[left], at[right]] = Psi[at[right], at[left]] = value
        elif right in given:
            gamma[at[left], given.index(right)] = value
        else:
            B[at[left], at[right]] = value
    T = np.asarray(np.linalg.inv(np.eye(m) - B), dtype=np.float64)
    return Equations(names, alpha, T, gamma, T @ Psi @ T.T)


class StructuralJudge:
    """Evaluates criteria of one model on one table."""

    def __init__(self, table: dict[str, Column], model: Model) -> None:
        parts = model.structural
        if parts is None:
            raise SystemExit("this judge is for structural models")
        self.model, self.parts = model, parts
        self.y = np.column_stack([table[name] for name in parts.outcomes]).astype(float)
        n = len(self.y)
        self.x = np.column_stack([np.zeros((n, 0)), *(table[name] for name in parts.given)])
        self.slopes = random_slopes(parts.text)
        self.predictor = {s: np.asarray(table[x], float) for s, _, x in self.slopes}
        self.codes = [level_codes(table, (name,)) for name in parts.cluster]
        top = self.codes[-1]
        order = np.argsort(top, kind="stable")
        self.units = np.split(order, np.flatnonzero(np.diff(top[order])) + 1)

    def criterion(self, found: Estimates) -> float:
        """-2 log-likelihood of the outcomes given the predictors."""
        levels = [
            equations(list(found.parameters), level, self.model)
            for level in range(1, len(self.codes) + 2)
        ]
        return float(sum(self._unit(rows, levels) for rows in self.units))

    def _unit(self, rows: NDArray[np.int64], levels: list[Equations]) -> float:
        x, n, P = self.x[rows], len(rows), self.y.shape[1]
        within = levels[0]
        out = within.where(self.parts.outcomes)
        mean = np.zeros((n, P))
        V = np.kron(np.eye(n), out @ within.covariance @ out.T)
        for level, parts in enumerate(levels):
            mean_here = (parts.alpha + x @ parts.gamma.T) @ parts.T.T
            if level == 0:
                mean += mean_here @ out.T
                continue
            # (n, P, m): what a variable of this level adds to each outcome of each row
            loading = np.broadcast_to(
                parts.where(self.parts.outcomes), (n, P, len(parts.names))
            ).copy()
            for slope, y, _ in self.slopes:
                if slope in parts.names:
                    into = out @ within.T[:, within.names.index(y)]
                    loading[:, :, parts.names.index(slope)] += (
                        self.predictor[slope][rows, None] * into
                    )
            mean += np.einsum("npm,nm->np", loading, mean_here)
            code = self.codes[level - 1][rows]
            flat = loading.reshape(n * P, -1)
            same = np.repeat(np.repeat(code[:, None] == code[None], P, 0), P, 1)
            V += same * (flat @ parts.covariance @ flat.T)
        left = (self.y[rows] - mean).ravel()
        seen = np.isfinite(left)
        root = np.linalg.cholesky(V[np.ix_(seen, seen)])
        half = np.linalg.solve(root, left[seen])
        count = int(seen.sum())
        return count * log(2 * pi) + 2.0 * float(np.log(np.diag(root)).sum()) + float(half @ half)
