"""Null models and tests that several studies share."""
