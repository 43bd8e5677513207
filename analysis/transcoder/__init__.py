"""Affine maps between sites of a model, beside what the token predicts."""
