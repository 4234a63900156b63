"""Pictures of generalized fits."""
