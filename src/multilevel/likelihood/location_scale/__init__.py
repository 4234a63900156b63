r"""Gaussian location-scale models: one-dimensional quadrature, whatever the location effects.

``y_ij = x'beta + z'b_j + e_ij``, ``log Var(e_ij) = w'tau + omega_j``, ``(b, omega)`` jointly normal
with covariance ``G``. Given ``omega`` everything is Gaussian, so only ``omega`` is left to the
quadrature. With ``omega = s v``, ``v ~ N(0, 1)``, ``s^2 = G_ss``:

    b | v ~ N(m v, C),  m = G_bs / s,  C = G_bb - m m'
    p_i = exp(-w_i'tau),  r = y - X beta,  t = exp(-omega)
    A = Z'PZ,  g = Z'Pr,  e = r'Pr,  g_v = g - v A m,  e_v = e - 2 v m'g + v^2 m'A m
    -2 log f(y|v) = sum_i [log 2pi - log p_i] + n omega + log|I + t C A| + t e_v
                    - t^2 g_v'(C^-1 + t A)^-1 g_v

``A, g, e`` cost one pass over the rows; nodes cost ``O(q^2)`` each, without rows.

Sources: Hedeker, Mermelstein & Demirtas 2008 (model); the reduction and its gradient are our own
derivation. Deviation: ``s^2`` has 1e-10 added, which keeps ``m`` defined where ``G_ss = 0`` and
changes -2 log-likelihoods by about that much.
"""
