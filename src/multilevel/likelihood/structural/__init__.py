"""Likelihood of two-level structural models.

Conventions. The criterion is minus twice the log-likelihood, constants included. For row i of
cluster j, ``y_ij = mu_W + E (mu_B + b_j) + e_ij`` with ``e ~ N(0, Sigma_W)``, and level-2 variables
``(b_j, z_j - mu_z) ~ N(0, Sigma_B)``; ``E`` puts the variables on both levels, which come first in
both vectors, into the level-1 vector. ``Sigma_B`` may be indefinite where the likelihood exists.
Sources: McDonald & Goldstein 1989 (Brit. J. Math. Stat. Psych. 42:215); Rosseel 2021.
"""
