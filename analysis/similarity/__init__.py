"""Similarity of the feature spaces of two SAEs, measured on matched pairs, with nulls."""
