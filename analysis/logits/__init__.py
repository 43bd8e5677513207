"""Logits: the tokens that a feature promotes by its decoder row, and when it is ablated."""
