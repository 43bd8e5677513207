"""Inference from random draws: p-values and intervals."""
