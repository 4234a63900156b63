r"""Uncertainty of a row's own predictor: random effects given the data, and the parameters.

``Var(eta) = z' C z + (x + z db/dpsi)' V (x + z db/dpsi)`` with C the covariance of the random
effects given the data and the parameters, and ``db/dpsi`` how the conditional modes move with the
parameters (by central differences of the mode search). Source: Kass & Steffey 1989 (Journal of the
American Statistical Association 84:717), first-order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.design.generalized_replay import PartRows
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    add_effects,
    block_covariance,
    fixed_predictors,
)
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.related import RelatedLaplace

Array = NDArray[np.float64]
#: Steps of parameters, in their standard errors.
STEP = 0.03
#: Random effects up to which covariances between grouping factors are computed.
MOST_JOINT = 2000
AT_ONCE = 256  # rows whose covariances are solved for together
INDEPENDENT = (
    "Covariances between random effects of different grouping factors are left out (too many)."
)


def mode_derivatives(evidence: GeneralizedEvidence) -> list[Array]:
    """``db/dpsi`` per block (P, J, q); zero for parameters without a standard error."""
    fit, problem = evidence.fit, evidence.prepared.problem
    objective = make_objective(problem, fit.approximation.points or None)
    objective.set_modes(fit.modes)
    errors = np.sqrt(np.maximum(np.diag(fit.vcov), 0.0))
    out = [np.zeros((fit.n_parameters, *b.shape)) for b in evidence.effects]

    def effects(psi: Array) -> list[Array]:
        objective.value(psi)
        pairs = zip(objective.modes(), problem.factors(psi), strict=True)
        return [u @ L.T for u, L in pairs]

    for k in np.flatnonzero(errors > 0.0):
        step = np.zeros(fit.n_parameters)
        step[k] = STEP * errors[k]
        up, down = effects(fit.psi + step), effects(fit.psi - step)
        for t, (high, low) in enumerate(zip(up, down, strict=True)):
            out[t][k] = (high - low) / (2.0 * step[k])
    return out


class ConditionalVariance:
    """Covariance of the predictors of rows of known groups, made once for many rows."""

    def __init__(self, evidence: GeneralizedEvidence) -> None:
        self.evidence = evidence
        self.moves = mode_derivatives(evidence)
        total = sum(b.size for b in evidence.effects)
        self.engine = evidence.objective if isinstance(evidence.objective, RelatedLaplace) else None
        several = len(evidence.effects) > 1 and self.engine is None
        self.joint = joint_covariance(evidence) if several and total <= MOST_JOINT else None
        self.note = INDEPENDENT if several and self.joint is None else ""

    def given_parameters(self, rows: PartRows) -> Array:
        """(m, R, R) from the random effects alone; a level without data has the whole ``G``."""
        evidence = self.evidence
        out = np.zeros((rows.n, len(evidence.random), len(evidence.random)))
        if self.engine is not None:
            return self._solved(rows, self.engine)
        if self.joint is not None:
            return self._joint(rows, self.joint)
        for t, (code, z) in enumerate(zip(rows.codes, rows.columns, strict=True)):
            C = evidence.effect_covariances[t][code]
            C = np.where((code >= 0)[:, None, None], C, evidence.fit.random_covariance[t])
            out += block_covariance(z, evidence.design.block_parts[t], evidence.random, C)
        return out

    def _solved(self, rows: PartRows, engine: RelatedLaplace) -> Array:
        """All covariances, of levels of one factor too; unknown levels have all of ``G``."""
        evidence = self.evidence
        designs = [Z @ _factors(evidence) for Z in _columns(evidence, rows)]
        out = np.zeros((rows.n, len(designs), len(designs)))
        for start in range(0, rows.n, AT_ONCE):
            part = slice(start, start + AT_ONCE)
            loads = [Z[part].toarray() for Z in designs]
            for s, right in enumerate(loads):
                pushed = engine.posterior_product(np.ascontiguousarray(right.T)).T
                for r, left in enumerate(loads):
                    out[part, r, s] = np.einsum("ij,ij->i", left, pushed)
        for t, z in enumerate(rows.columns):
            own = rows.of_block(t)
            lost = (rows.codes[t] < 0).astype(np.float64) if own is None else own.unknown
            G, parts = evidence.fit.random_covariance[t], evidence.design.block_parts[t]
            wide = z * np.sqrt(lost)[:, None]
            out += block_covariance(wide, parts, evidence.random, G)
        return out

    def _joint(self, rows: PartRows, covariance: Array) -> Array:
        evidence = self.evidence
        designs = _columns(evidence, rows)
        R = len(designs)
        out = np.zeros((rows.n, R, R))
        for r, left in enumerate(designs):
            pushed = np.asarray(left @ covariance)
            for s, right in enumerate(designs):
                out[:, r, s] = np.asarray(right.multiply(pushed).sum(axis=1)).ravel()
        for t, (code, z) in enumerate(zip(rows.codes, rows.columns, strict=True)):
            new = code < 0
            if new.any():
                G = evidence.fit.random_covariance[t]
                parts = evidence.design.block_parts[t]
                out[new] += block_covariance(z[new], parts, evidence.random, G)
        return out

    def movement(self, rows: PartRows) -> Array:
        """``z db/dpsi`` (P, D, m): what the parameters do to the predictors by the modes."""
        out = np.zeros((self.evidence.fit.n_parameters, len(rows.X), rows.n))
        parts = self.evidence.design.block_parts
        for t, z in enumerate(rows.columns):
            P, J, q = self.moves[t].shape
            flat = self.moves[t].transpose(1, 0, 2).reshape(J, P * q)
            own = rows.level_values(t, flat).reshape(rows.n, P, q)
            for a, d in enumerate(parts[t]):
                out[:, d] += (own[:, :, a] * z[:, [a]]).T
        return out


def _columns(evidence: GeneralizedEvidence, rows: PartRows) -> list[sparse.csr_matrix]:
    """Per random part the columns (m, Q) of all random effects, level by level within a block."""
    where: list[list[NDArray[np.intp]]] = [[] for _ in evidence.random]
    at: list[list[NDArray[np.int64]]] = [[] for _ in evidence.random]
    values: list[list[Array]] = [[] for _ in evidence.random]
    start = 0
    for t, (code, z) in enumerate(zip(rows.codes, rows.columns, strict=True)):
        J, q = evidence.effects[t].shape
        own, row = rows.of_block(t), np.flatnonzero(code >= 0)
        level, weight = code[row].astype(np.int64), np.ones(len(row))
        if own is not None:
            entries = sparse.coo_array(own.loads)
            row = entries.row.astype(np.intp)
            level, weight = entries.col.astype(np.int64), entries.data
        for a, d in enumerate(evidence.design.block_parts[t]):
            r = evidence.random.index(d)
            where[r].append(row)
            at[r].append(start + level * q + a)
            values[r].append(weight * z[row, a])
        start += J * q
    return [
        sparse.csr_matrix(
            (np.concatenate(values[r]), (np.concatenate(where[r]), np.concatenate(at[r]))),
            shape=(rows.n, start),
        )
        for r in range(len(evidence.random))
    ]


def _factors(evidence: GeneralizedEvidence) -> sparse.csr_matrix:
    """``Lambda`` (Q, Q) of all random effects."""
    return sparse.csr_matrix(
        sparse.block_diag(
            [
                sparse.kron(sparse.identity(len(b)), factor)
                for b, factor in zip(evidence.effects, evidence.fit.relative_factors, strict=True)
            ]
        )
    )


def joint_covariance(evidence: GeneralizedEvidence) -> Array:
    """``Lambda H^-1 Lambda'`` (Q, Q) of all random effects together, at the modes.

    ``H = I + Z~'W Z~`` with the observed W (the conventions of the likelihood).
    """
    rows = evidence.rows
    eta = add_effects(fixed_predictors(rows, evidence.fit), rows, evidence, evidence.effects)
    second = evidence.outcome.newton(eta)[2]
    L = _factors(evidence)
    scaled = [Z @ L for Z in _columns(evidence, rows)]
    H = np.eye(L.shape[0])
    for r, left in enumerate(scaled):
        for s, right in enumerate(scaled):
            H += (left.T @ sparse.diags(-second[r, s]) @ right).toarray()
    return np.asarray(L @ np.linalg.inv(H) @ L.T)
