"""The optimiser, start values and the convergence certificate; one frozen Fit comes out."""
