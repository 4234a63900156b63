"""What a fitted generalized model means: predictions, slopes, shares of variance, checks."""
