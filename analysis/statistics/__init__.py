"""Nulls and tests that several studies share."""
