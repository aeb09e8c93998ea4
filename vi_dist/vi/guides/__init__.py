"""Guide families over the unconstrained coordinates of all latents: one family a file, one table."""
