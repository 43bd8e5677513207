"""The plot of a match of two SAEs."""
