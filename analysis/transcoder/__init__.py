"""Affine maps between sites of a model, compared with predictions from the token id."""
