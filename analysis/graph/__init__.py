"""Co-activation graphs: statistics, distributions, growth and null models."""
