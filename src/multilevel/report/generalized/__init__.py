"""Reports of generalized models."""
