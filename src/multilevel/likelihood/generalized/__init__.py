r"""The likelihood of generalized multilevel models.

Conventions, stated once for the whole room
-------------------------------------------
A row ``i`` has ``D`` linear predictors ("parts"): ``eta_d = X_d beta_d + offset_d + (Z b)_d``, and
a log density ``l(y_i; eta_1..eta_D)``. Dispersions, thresholds, zero-inflation are parts too, most
of them with an intercept only. Part 0 is the mean. The ``R`` parts that carry random effects are
the *random parts*; a random-effect column belongs to exactly one part.

* ``b = Lambda u``, ``u ~ N(0, I)`` per level; ``Lambda`` is absolute here (no residual variance
  multiplies it), ``G = Lambda Lambda'``; structures are the linear maps of
  ``model.covariance.structures``.
* ``h(u) = sum_i l_i - u'u/2``; mode ``u~``; ``W = -d2l/deta_r deta_r'`` (observed, R x R per row);
  ``H = I + Z~' W Z~`` with ``Z~ = Z Lambda``.
* Laplace: ``log L = h(u~) - log|H| / 2``. Adaptive quadrature: numerics in ``quadrature``.
* The criterion is ``-2 log L`` with every constant of the density (so that families and programs
  can be compared); its gradient is exact, the movement of the modes included.
* ``psi`` stacks all parameters: ``beta_0, beta_1, ..., beta_{D-1}`` (part by part), then ``theta``
  (block by block).
* Arrays by row are ``(D, n)``: a part is contiguous.

With row adjoints ``c_d = (1/2) sum_{rr'} l'''_{rr'd} a_{rr'}``, ``a = z~ H^-1 z~'`` (R x R) and
``s = H^-1 Z~' c_random``:

    rho_d          = l'_d + c_d + sum_r l''_{rd} (z~_r s)
    dL/dbeta_d     = X_d' rho_d
    dL/dLambda_t   = sum_g [(Z_t'rho)_g u_g' - (Z_t'W Z~ H^-1)_gg + (Z_t'l')_g s_g']

Sources: Breslow & Clayton 1993; Pinheiro & Bates 1995; Kristensen et al. 2016; the gradient is our
own derivation by the implicit function theorem.
"""
