"""A fit in, uncertainty out: tests, degrees of freedom, intervals, comparisons of models."""
