"""Subspaces of concepts: the features enriched on labelled words, and their similarity across SAEs."""
