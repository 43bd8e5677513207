"""Communities of co-activation graphs."""
