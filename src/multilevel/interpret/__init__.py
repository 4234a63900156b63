"""A fitted model in, what it means out: random effects, predictions, variances, advice."""
