"""Are the co-activation graphs of two SAEs alike? Distances, conserved edges, communities, each beside its controls."""
