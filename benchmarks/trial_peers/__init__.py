"""NumPyro and PyMC at their defaults on the posteriors of the trial."""
