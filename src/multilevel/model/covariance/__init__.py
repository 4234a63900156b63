"""Covariance structures of random effects, as maps from parameters to a relative factor."""
