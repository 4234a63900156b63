"""What to look at again in a fitted model: mistakes that the design and the fit give away."""
