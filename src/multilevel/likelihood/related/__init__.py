"""Gaussian likelihoods of general random effects: rows with several levels, correlated levels.

Conventions are those of ``likelihood.gaussian``. Two kinds of coordinates: ``b``, the effects of
the levels, with relative covariance ``A (x) Psi``; and the independent ``u = (C^-1 (x) I) b`` with
``A = CC'``, relative covariance ``I (x) Psi``. The contract of the Gaussian engines (``cross``,
``information_sum``, ``information_product``) is in u, where the objective's formulas hold as they
stand; effects and their variances are read in b.
"""
