"""Solvers of many regularised regressions at once."""
