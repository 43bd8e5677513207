"""Affine maps from one place in a model to another, and what of the second they predict."""
