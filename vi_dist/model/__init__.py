"""The model language: random variables, worlds, data; knows nothing of inference."""
