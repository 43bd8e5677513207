"""Report on affine maps, residual SAEs and their controls."""
