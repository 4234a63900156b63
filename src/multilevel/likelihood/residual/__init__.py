r"""The likelihood with structured residuals.

``y = X beta + Z b + e`` with ``e_j ~ N(0, sigma2 R_j(phi))`` for each unit j and ``R = D C D``
(standard deviations relative to sigma, correlations). With ``C = LL'`` the rows ``L^-1 D^-1 [Z X
y]`` follow the model with independent residuals, so every engine of ``likelihood.gaussian`` serves
unchanged; the criterion gains ``log|R|``.

Derivatives in ``phi``: with ``P = V^-1 - [REML] V^-1 X (X'V^-1X)^-1 X'V^-1``,

    dd/dphi = tr(P dR) - r'V^-1 dR V^-1 r / sigma2.

Units lie inside the levels of every grouping factor, so within a unit ``P`` is, in whitened rows,
``I - U Y'`` with a few columns: the residuals over sigma, the projected columns of X (REML), and Z
against the conditional covariance of its effects. So the score of a whole correlation matrix costs
one product per unit, and the chain rule to ``phi`` one small product for all units.

Sources: Jennrich & Schluchter 1986; Lindstrom & Bates 1988; Pinheiro & Bates 2000, chapter 5; the
form ``I - UY'`` is an own derivation.
"""
