r"""The criterion in ``(theta, phi)`` from sums by pattern; the plain twin is ``objective``.

Clusters are independent, so with ``V_c = R_c(phi) + Z_c Psi Z_c'`` (relative to sigma2) of pattern
c, N_c clusters and ``K_c[s, t] = sum_j f_js f_jt'``, f a row of ``F = [X y]``:

    F'V^-1 F = sum_c sum_st V_c^-1[s, t] K_c[s, t],      log|V| = sum_c N_c log|V_c|,
    dd/dpsi_k = sum_c tr(M_c dV_k),   M_c = N_c V_c^-1 - V_c^-1 E_c V_c^-1,
    E_c[s, t] = <W, K_c[s, t]>,       W = bb'/sigma2 [+ (X'V^-1X)^-1 for REML],  b = (-beta, 1).

Hessian, with ``B_k = V^-1 dV_k``, ``T_k = F'V^-1 dV_k V^-1 F``, ``q_k = T_k[X] b``,
``s_k = b'T_k b``:

    H_kl = tr(M d2V_kl) - N tr(B_k B_l) + 2 tr(B_k B_l V^-1 E) - 2 q_k'(X'V^-1X)^-1 q_l / sigma2
           - s_k s_l / (nu sigma^4) [- tr{(X'V^-1X)^-1 T_k (X'V^-1X)^-1 T_l} for REML].

Average information keeps ``tr(B_k B_l V^-1 E)`` of the residuals and the two products, once, and
the second derivatives of ``Psi``. Sources: Jennrich & Schluchter 1986 (scores by cluster); Gilmour,
Thompson & Cullis 1995; contraction with the sums: own derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.gaussian.objective import Profile, profile_out
from multilevel.likelihood.residual.objective import StructuredProblem
from multilevel.likelihood.residual.pattern_layout import PatternStack, PatternSums
from multilevel.likelihood.residual.whiten import LARGEST_LOG_SD

Array = NDArray[np.float64]
CHUNK = 4_000_000  # entries of dV held at a time
STEP = 1e-5


@dataclass
class _State:
    """What one stack holds at ``psi``: R, log standard deviations, ``V^-1``."""

    R: Array
    sd: Array
    inverse: Array


class PatternObjective:
    """Criterion under ML or REML as a function of ``psi = (theta, phi)``; cost by pattern."""

    def __init__(self, problem: StructuredProblem, sums: PatternSums, reml: bool) -> None:
        self.problem, self.sums, self.reml = problem, sums, reml
        sizes = [f.n_parameters for f in problem.maps]
        ends = np.cumsum([0, *sizes])
        self.slices = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self.n_theta = r = int(ends[-1])
        layout = problem.layout
        ends = np.cumsum([r + len(layout.variance_names), *(m.n_parameters for m in sums.maps)])
        self.variance = slice(r, int(ends[0]))
        self.correlation = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self.n_parameters = int(ends[-1])
        self.nu = problem.n - problem.p if reml else problem.n
        self.n_evaluations = 0
        self._psi: Array | None = None
        self._profile: Profile | None = None
        self._states: list[_State] = []
        self._factors: list[Array] = []
        self._slopes: list[Array] = []

    # -- value ---------------------------------------------------------------------------------

    def value(self, psi: Array) -> float:
        """The criterion at ``psi`` (r + K,).

        Raises
        ------
        LikelihoodError : a covariance matrix that is not positive definite, variances out of range.
        """
        self.n_evaluations += 1
        self._psi = None
        if not np.all(np.isfinite(psi)):
            raise _out_of_range()
        self._factors = [
            f.factor(psi[s]) for f, s in zip(self.problem.maps, self.slices, strict=True)
        ]
        tables = [m.table(psi[s]) for m, s in zip(self.sums.maps, self.correlation, strict=True)]
        values = np.concatenate([*(v for v, _ in tables), [0.0, 1.0]])
        self._slopes = [d for _, d in tables]
        self._states, logdet = [], 0.0
        m = self.problem.p + 1
        T = np.zeros(m * m)
        for stack in self.sums.stacks:
            state, own = self._factorise(stack, psi, values)
            self._states.append(state)
            logdet += own
            T += state.inverse.ravel() @ stack.sums
        T = T.reshape(m, m)
        self._profile = profile_out(
            (T + T.T) / 2.0, logdet, self.problem.n, self.problem.p, self.reml
        )
        self._psi = np.array(psi)
        return self._profile.criterion

    def _factorise(self, stack: PatternStack, psi: Array, values: Array) -> tuple[_State, float]:
        log_sd = 0.5 * (stack.A @ psi[self.variance])
        if float(np.abs(log_sd).max(initial=0.0)) > LARGEST_LOG_SD:
            raise _out_of_range()
        sd = np.exp(log_sd + stack.fixed_log_sd)
        R = values[stack.index] * (sd[:, :, None] * sd[:, None, :])
        V = R
        for Z, together, L in zip(stack.Z, stack.together, self._factors, strict=True):
            half = Z @ L
            V = V + (half @ half.transpose(0, 2, 1)) * together
        try:
            root = np.linalg.cholesky(V)
            if V is not R:  # the residual covariance must be one of its own
                np.linalg.cholesky(R)
        except np.linalg.LinAlgError as error:
            raise LikelihoodError(
                "The covariance of every cluster must be positive definite.",
                "a covariance matrix that is not",
                "use a residual structure with fewer parameters",
            ) from error
        diagonal = np.einsum("paa->pa", root)
        half = np.linalg.inv(root)
        logdet = 2.0 * float(stack.counts @ np.log(diagonal).sum(1))
        return _State(R, sd, half.transpose(0, 2, 1) @ half), logdet

    def _ensure(self, psi: Array) -> Profile:
        if self._profile is None or self._psi is None or not np.array_equal(psi, self._psi):
            self.value(psi)
        if self._profile is None:  # value() made it
            raise ValueError("the objective could not be set")
        return self._profile

    # -- first derivatives ---------------------------------------------------------------------

    def _weights(self, profile: Profile, residuals_only: bool) -> Array:
        """``W`` (m, m) with ``E[s, t] = <W, K[s, t]>``."""
        p = self.problem.p
        b = np.append(-profile.beta, 1.0) / np.sqrt(profile.sigma2)
        W = np.outer(b, b)
        if self.reml and not residuals_only:
            inverse = np.linalg.solve(profile.R, np.eye(p))
            W[:p, :p] += inverse @ inverse.T
        return W

    def _crossed(self, stack: PatternStack, W: Array) -> Array:
        """``E`` (P, T, T), symmetric."""
        E = (stack.sums @ W.ravel()).reshape(stack.index.shape)
        return (E + E.transpose(0, 2, 1)) / 2.0

    def _scores(self, profile: Profile) -> list[Array]:
        """``M`` of every stack."""
        W = self._weights(profile, residuals_only=False)
        out = []
        for stack, state in zip(self.sums.stacks, self._states, strict=True):
            E, inverse = self._crossed(stack, W), state.inverse
            out.append(stack.counts[:, None, None] * inverse - inverse @ E @ inverse)
        return out

    def gradient(self, psi: Array) -> Array:
        """``dd/dpsi`` (r + K,)."""
        M = self._scores(self._ensure(psi))
        out = np.zeros(self.n_parameters)
        for f, s, Q, L in zip(
            self.problem.maps, self.slices, self._score_blocks(M), self._factors, strict=True
        ):
            out[s] = np.einsum("ab,rab->r", Q, f.covariance_slopes(psi[s], L))
        for stack, state, own in zip(self.sums.stacks, self._states, M, strict=True):
            out[self.variance] += np.einsum("pst,pst,psa->a", own, state.R, stack.A, optimize=True)
        binned = self._binned(M)
        for s, D, G in zip(self.correlation, self._slopes, binned, strict=True):
            out[s] = D @ G
        return out

    def _score_blocks(self, M: list[Array]) -> list[Array]:
        """``Z'MZ`` of each block, summed (q, q)."""
        out = []
        for k in range(len(self.problem.maps)):
            Q = np.zeros(self._factors[k].shape)
            for stack, own in zip(self.sums.stacks, M, strict=True):
                Z = stack.Z[k]
                Q += (Z.transpose(0, 2, 1) @ (own * stack.together[k]) @ Z).sum(0)
            out.append(Q)
        return out

    def _binned(self, M: list[Array]) -> list[Array]:
        """``dd`` in every entry of the tables of correlations, by category of ``by``."""
        if not self.sums.maps:
            return []
        size = self._slopes[0].shape[1]
        total = np.zeros(size * len(self.sums.maps) + 2)
        for stack, state, own in zip(self.sums.stacks, self._states, M, strict=True):
            weights = own * state.sd[:, :, None] * state.sd[:, None, :]
            total += np.bincount(stack.index.ravel(), weights=weights.ravel(), minlength=len(total))
        return list(total[:-2].reshape(-1, size))

    # -- curvature -----------------------------------------------------------------------------

    def _directions(self, psi: Array, stack: PatternStack, state: _State, part: slice) -> Array:
        """``dV / dpsi`` of some patterns: (k, P', T, T)."""
        index, R, sd = stack.index[part], state.R[part], state.sd[part]
        out = np.empty((self.n_parameters, *R.shape))
        for f, s, L, Z, together in zip(
            self.problem.maps, self.slices, self._factors, stack.Z, stack.together, strict=True
        ):
            own = Z[part]
            out[s] = own @ f.covariance_slopes(psi[s], L)[:, None] @ own.transpose(0, 2, 1)
            out[s] *= together[part]
        A = stack.A[part]
        for k in range(A.shape[-1]):
            a = A[..., k]
            out[self.variance.start + k] = 0.5 * (a[:, :, None] + a[:, None, :]) * R
        both = sd[:, :, None] * sd[:, None, :]
        size = 0 if not self._slopes else self._slopes[0].shape[1]
        for g, (s, D) in enumerate(zip(self.correlation, self._slopes, strict=True)):
            table = np.zeros((D.shape[0], size * len(self._slopes) + 2))
            table[:, g * size : (g + 1) * size] = D
            out[s] = table[:, index] * both
        return out

    def average_information(self, psi: Array) -> Array:
        """Average-information curvature (r + K, r + K), sigma2 profiled out."""
        return self._curvature(psi, average=True)

    def hessian(self, psi: Array) -> Array:
        """Exact Hessian; second derivatives of the tables of correlations by differences."""
        return self._curvature(psi, average=False)

    def _curvature(self, psi: Array, average: bool) -> Array:
        profile = self._ensure(psi)
        if self.n_parameters == 0:
            return np.zeros((0, 0))
        k, p, m = self.n_parameters, self.problem.p, self.problem.p + 1
        M = self._scores(profile)
        W = self._weights(profile, residuals_only=average)
        H, products = np.zeros((k, k)), np.zeros((k, m * m))
        slopes = np.zeros((k, k))
        for stack, state, own in zip(self.sums.stacks, self._states, M, strict=True):
            E = self._crossed(stack, W)
            P, size = stack.index.shape[0], stack.index.shape[1]
            step = max(1, CHUNK // (k * size * size + 1))
            for start in range(0, P, step):
                part = slice(start, min(start + step, P))
                dV, inverse = self._directions(psi, stack, state, part), state.inverse[part]
                B = inverse @ dV
                inner = inverse @ E[part]
                if not average:
                    inner = 2.0 * inner - stack.counts[part, None, None] * np.eye(size)
                    slopes += self._variance_slopes(stack, own, dV, part)
                H += (inner @ B).reshape(k, -1) @ B.transpose(0, 1, 3, 2).reshape(k, -1).T
                rows = slice(part.start * size * size, part.stop * size * size)
                products += (B @ inverse).reshape(k, -1) @ stack.sums[rows]
        T = products.reshape(k, m, m)
        b = np.append(-profile.beta, 1.0) / np.sqrt(profile.sigma2)
        inverse_root = np.linalg.solve(profile.R, np.eye(p))
        q = T[:, :p] @ b @ inverse_root
        s = T @ b @ b
        once = 1.0 if average else 2.0
        H -= once * (q @ q.T) + np.outer(s, s) / self.nu
        if self.reml and not average:
            Y = (inverse_root.T @ T[:, :p, :p] @ inverse_root).reshape(k, -1)
            H -= Y @ Y.T
        self._add_second_order(H, psi, M, average)
        H += slopes
        return np.asarray((H + H.T) / 2.0)

    def _variance_slopes(self, stack: PatternStack, M: Array, dV: Array, part: slice) -> Array:
        """``tr(M d2V)`` of every residual parameter with every coefficient of the log variance."""
        r, v = self.n_theta, self.variance
        out = np.zeros((self.n_parameters, self.n_parameters))
        if v.stop > v.start:
            weighted = np.einsum("pst,kpst->kps", M[part], dV[r:], optimize=True)
            found = np.einsum("kps,psa->ka", weighted, stack.A[part], optimize=True)
            out[r:, v] = found
            out[v, v.stop :] = found[v.stop - r :].T
        return out

    def _add_second_order(self, H: Array, psi: Array, M: list[Array], average: bool) -> None:
        """``tr(M d2V)``: of ``Psi`` exactly, of correlations by differences of their tables."""
        for f, s, Q in zip(self.problem.maps, self.slices, self._score_blocks(M), strict=True):
            H[s, s] += f.bends(psi[s], Q)
        if average:
            return
        for m, s, G in zip(self.sums.maps, self.correlation, self._binned(M), strict=True):
            x = psi[s]
            second = np.empty((len(x), len(x)))
            for a in range(len(x)):
                shift = np.zeros(len(x))
                shift[a] = STEP * max(1.0, abs(float(x[a])))
                change = m.table(x + shift)[1] - m.table(x - shift)[1]
                second[a] = change @ G / (2.0 * shift[a])
            H[s, s] += (second + second.T) / 2.0


def _out_of_range() -> LikelihoodError:
    return LikelihoodError(
        "The residual variance must stay within its numeric range.",
        "a coefficient of the log variance that is too large",
        "rescale the predictors of scale=",
    )
