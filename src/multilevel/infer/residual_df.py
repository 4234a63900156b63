r"""Satterthwaite and Kenward-Roger with structured residuals.

Satterthwaite: ``2 f^2 / (g'Wg)`` with ``g = df/d(psi, log sigma2)`` and ``W`` twice the inverse of
the observed Hessian; ``psi = (theta, phi)`` holds the random-effect and residual parameters.
Derivatives of the exact gradient, of ``(X'V^-1X)^-1`` and of the residual sum of squares are
central differences. With the profiled Hessian ``H_p`` and ``c = -(dr2/dpsi)/sigma2``:

    H = [H_p + cc'/nu   c ; c'   nu].

Kenward-Roger, first order (SAS ``DDFM=KR(FIRSTORDER)``, mmrm "Kenward-Roger-Linear"): the second
derivatives of ``V`` are left out, so the answer does not depend on how the structure is
parametrised; for structures that are linear in their parameters (independent by group, compound
symmetry, Toeplitz, unstructured) it is the full method. Clusters are laid out one size at a time.
Sources: Satterthwaite 1946; Giesbrecht & Burns 1985; Kenward & Roger 1997, 2009.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import StructuredPrepared, from_the_widest
from multilevel.estimate.structured_report import covariance_of
from multilevel.infer.face import linear_basis
from multilevel.infer.kenward_roger import KenwardRoger, from_tensors
from multilevel.infer.satterthwaite import Satterthwaite
from multilevel.likelihood.gaussian.objective import Profile
from multilevel.likelihood.residual.dense import residual_matrices
from multilevel.likelihood.residual.objective import StructuredObjective

Array = NDArray[np.float64]
MAX_WORK = 3e10  # multiplications of the Kenward-Roger tensors
LINEAR = ("ind", "diag", "cs", "toep", "un")


def _check_effects(fit: Fit) -> None:
    if fit.n_fixed == 0:
        raise InferenceError(
            "Tests of fixed effects need fixed effects.", "a model without any", "add one"
        )


def structured_satterthwaite(
    prepared: StructuredPrepared, fit: Fit, objective: StructuredObjective, psi: Array
) -> Satterthwaite:
    """Satterthwaite's method for a fit with structured residuals.

    Parameters
    ----------
    objective : of ``prepared``; left set at ``psi`` (r + K,).

    Raises
    ------
    InferenceError : a criterion that does not curve upwards at the fit, no fixed effects.
    """
    _check_effects(fit)
    moved, at = from_the_widest(prepared, psi)
    if moved is not prepared:
        return structured_satterthwaite(moved, fit, moved.objective(), at)
    k, scaling = len(psi), prepared.plain.scaling
    nu = fit.n - fit.n_fixed if fit.method == "reml" else fit.n
    sigma2 = _profile(objective, psi).sigma2
    H, slopes = np.empty((k, k)), np.empty(k)
    derivatives = []
    for a in range(k):
        shift = np.zeros(k)
        shift[a] = 1e-5 * max(1.0, abs(float(psi[a])))
        ends = []
        for sign in (1.0, -1.0):
            gradient = objective.gradient(psi + sign * shift)
            profile = _profile(objective, psi + sign * shift)
            ends.append((gradient, profile.r2, _inverse(profile)))
        width = 2.0 * shift[a]
        H[a] = (ends[0][0] - ends[1][0]) / width
        slopes[a] = (ends[0][1] - ends[1][1]) / width
        derivatives.append(scaling.vcov_beta(sigma2 * (ends[0][2] - ends[1][2]) / width))
    objective.set(psi)
    c = -slopes / sigma2
    full = np.empty((k + 1, k + 1))
    full[:k, :k] = (H + H.T) / 2.0 + np.outer(c, c) / nu
    full[:k, k] = full[k, :k] = c
    full[k, k] = nu
    W = covariance_of(full)
    if not np.all(np.isfinite(W)):
        raise InferenceError(
            "Satterthwaite degrees of freedom need a criterion that curves upwards at the optimum.",
            "a Hessian of the variances and correlations that is not positive definite",
            "write df='between-within', df='residual' or df='none', or use a simpler structure",
        )
    return Satterthwaite(fit.vcov_beta, np.stack([*derivatives, fit.vcov_beta]), W, ())


def _profile(objective: StructuredObjective, psi: Array) -> Profile:
    profile = objective.ensure(psi).profile
    if profile is None:
        raise InferenceError("The objective must be set at the fit.", "unset", "call set(psi)")
    return profile


def _inverse(profile: Profile) -> Array:
    half = np.linalg.solve(profile.R, np.eye(len(profile.R)))
    return np.asarray(half @ half.T)


def structured_kenward_roger(
    prepared: StructuredPrepared,
    whitened: Prepared,
    fit: Fit,
    objective: StructuredObjective,
    psi: Array,
) -> KenwardRoger:
    """Kenward and Roger's method (first order) for a fit with structured residuals.

    Raises
    ------
    InferenceError : an ML fit, no fixed effects, or clusters too large to lay out.
    """
    _check_effects(fit)
    if fit.method != "reml":
        raise InferenceError(
            "Kenward-Roger is defined for REML fits.",
            "an ML fit",
            "use update(method='reml'), or df='satterthwaite'",
        )
    inner, profile = objective.ensure(psi), _profile(objective, psi)
    problem, layout = prepared.problem, prepared.layout
    half = np.linalg.solve(profile.R, np.eye(fit.n_fixed))
    X = problem.F[:, problem.n_random : -1] @ half
    ends = np.cumsum([0, *(m.n_parameters for m in problem.maps)])
    bases = [
        linear_basis(mapping, psi[a:b])
        for mapping, a, b in zip(problem.maps, ends[:-1], ends[1:], strict=True)
    ]
    k = sum(map(len, bases)) + layout.n_parameters + 1
    P, p = np.zeros((k, fit.n_fixed, fit.n_fixed)), fit.n_fixed
    Q, t = np.zeros((k, k, p, p)), np.zeros((k, k))
    top = _top_units(prepared)
    sizes = np.bincount(top)
    work = float((sizes.astype(np.float64) ** 3).sum()) * k + float(k) ** 2 * p * p * len(sizes)
    if work > MAX_WORK:
        raise InferenceError(
            "Kenward-Roger lays out the covariance matrix of every cluster here.",
            f"{len(sizes)} clusters of up to {int(sizes.max())} rows and {k} parameters",
            "write df='satterthwaite'",
        )
    phi = psi[objective.n_theta :]
    order = np.argsort(top, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        step = max(1, int(4e6 // (size * size * k)))
        for at in range(0, len(members), step):
            some = members[at : at + step]
            rows = order[starts[some][:, None] + np.arange(size)]
            V, dV = _laid_out(prepared, phi, inner.factors, bases, rows)
            more = _tensors(V, dV, X[rows])
            P, Q, t = P + more[0], Q + more[1], t + more[2]
    found = from_tensors(whitened, fit, profile, P, Q, t)
    if layout.term is not None and layout.term.structure in LINEAR and layout.scale_recipe is None:
        return found
    note = (
        "Kenward-Roger is of first order here: second derivatives of the covariance matrix are"
        " left out (SAS: DDFM=KR(FIRSTORDER))."
    )
    return KenwardRoger(
        found.vcov, found.unadjusted, found.slopes, found.parameter_covariance,
        (*found.notes, note),
    )  # fmt: skip


def _top_units(prepared: StructuredPrepared) -> NDArray[np.intp]:
    """Independent cluster of each sorted row."""
    return prepared.problem.independent().astype(np.intp)


def _laid_out(
    prepared: StructuredPrepared, phi: Array, factors: list[Array], bases: list[Array],
    rows: NDArray[np.intp],
) -> tuple[Array, Array]:  # fmt: skip
    """``V`` (N, T, T), relative, and its derivatives (k, N, T, T): G, R, then ``V`` itself."""
    problem, layout = prepared.problem, prepared.layout
    own_phi = phi[: len(phi) - problem.scales.n_parameters]
    V, dR = residual_matrices(layout, own_phi, layout.order[rows], derivatives=True)
    parts, at = [], 0
    F = problem.scales.apply(problem.F, phi)
    scaled = dict(problem.scales.directions(factors))
    moves: list[Array] = []
    for t, (code, L, E) in enumerate(zip(problem.codes, factors, bases, strict=True)):
        Z = F[:, at : at + L.shape[0]][rows]
        at += L.shape[0]
        level = code[rows]
        same = level[:, :, None] == level[:, None, :]
        V = V + (Z @ (L @ L.T) @ Z.transpose(0, 2, 1)) * same
        parts += [(Z @ element @ Z.transpose(0, 2, 1)) * same for element in E]
        for levels, D in scaled.get(t, ()):
            weight = levels[level]
            moves.append(weight[:, :, None] * (Z @ D @ Z.transpose(0, 2, 1)) * same)
    own = np.stack(parts) if parts else np.zeros((0, *V.shape))
    own = np.concatenate([own, np.stack(moves)]) if moves else own
    return V, np.concatenate([own, dR, V[None]])


def _tensors(V: Array, dV: Array, X: Array) -> tuple[Array, Array, Array]:
    """``P``, ``Q`` and ``t`` summed over clusters of one size."""
    Y = np.linalg.solve(V, X)
    M = np.linalg.solve(V[None], dV)
    D = dV @ Y
    VD = np.linalg.solve(V[None], D)
    return (
        -np.einsum("nia,knib->kab", Y, D, optimize=True),
        np.einsum("knia,lnib->klab", D, VD, optimize=True),
        np.einsum("knij,lnji->kl", M, M, optimize=True),
    )
