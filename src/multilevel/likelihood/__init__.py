"""Arrays in, likelihood out: value, gradient, curvature."""
