"""Model and parameters in, data out."""
