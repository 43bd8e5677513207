"""Ablations: the sample, first-order attribution, and real ablations with their controls."""
