"""Splitting of the features of an SAE into features of a wider SAE at the same site."""
