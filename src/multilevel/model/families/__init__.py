"""Outcome families: what kind of response, which linear predictors, which links."""
