"""The networks, one a file, with the parameter names of the official checkpoints."""
