"""Solvers for many regularised regressions on shared vectors."""
