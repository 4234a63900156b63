"""Cross-products, blocked factors and compiled kernels shared by all likelihoods."""
