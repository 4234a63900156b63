r"""The likelihood of general (conditionally normal) multilevel models.

Conventions, stated once for the whole room
-------------------------------------------
Model: ``y = X beta + sum_t Z_t b_t + e``, ``e ~ N(0, sigma2 * diag(1/w))``,
``b_t ~ N(0, sigma2 * Psi_t)`` per level of grouping factor ``t``, ``Psi_t = Lambda_t Lambda_t'``.

* ``W = [X y]``, ``m = p + 1`` columns; all engines work with cross-products only.
* ``V = I + Z Psi Z'`` is the *relative* marginal covariance; it is never formed.
* ``T = W'V^-1 W`` (m x m); ``logdet = log|V|``; ``nu = n`` (ML) or ``n - p`` (REML).
* objective ``d`` = -2 log-likelihood (ML) or the REML criterion, both profiled over beta and
  sigma2, with every constant; REML uses the lme4/SAS constant (no ``log|X'X|``).
* *score matrix* ``Q_t = dd/dPsi_t`` (q x q, symmetric, free elements counted once per entry):
  ``Q_t = sum_g G_gg - g_g g_g'/sigma2 - [REML] H_Xg Txx^-1 H_Xg'`` with
  ``G = Z'V^-1 Z``, ``H = Z'V^-1 W``, ``g = Z'V^-1 (y - X beta)``.
* ``Lambda`` may be any square factor; structures are linear maps ``theta -> Lambda``.

Sources: Lindstrom & Bates 1988; Wolfinger, Tobias & Sall 1994; Bates et al. 2015 (JSS 67:1);
Gilmour, Thompson & Cullis 1995 (average information).
"""
