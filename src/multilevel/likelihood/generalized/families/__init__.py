"""Log densities by row with their derivatives in the linear predictors, one file per family."""
