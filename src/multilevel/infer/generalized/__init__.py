"""Tests and intervals of generalized models."""
