"""What is compared: one way of taking steps a file, all behind the same three methods."""
