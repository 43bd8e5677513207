"""Labelled words: their files, their contexts, and their activations."""
