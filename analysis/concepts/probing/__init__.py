"""Probes of labelled words: grouped splits, linear and non-linear probes, and their controls."""
