"""Comparison of the co-activation graphs of two SAEs: distances, conserved edges and communities, with controls."""
