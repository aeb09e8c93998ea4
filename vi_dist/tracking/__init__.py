"""Records of a sweep and their way into MLflow."""
