"""Concepts: labelled words, the units and probes that separate them, and the worth of an SAE."""
