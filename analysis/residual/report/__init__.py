"""Dataset geometry: what an affine map of an early layer explains, what stays, and whether that is harder to predict."""
