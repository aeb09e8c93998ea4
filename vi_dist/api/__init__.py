"""The Python interface: what the command line calls too."""
