"""Estimation of generalized multilevel models."""
