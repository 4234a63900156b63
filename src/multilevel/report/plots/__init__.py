"""Pictures of a fit as plotnine objects; the only room that imports a plotting library."""
