"""Comparison of the co-activation graphs of two SAEs, with nulls."""
