"""Generalized multilevel models at the public door."""
