"""Models of the benchmarks: one a file, as vi_dist, NumPyro and Pyro write it."""
