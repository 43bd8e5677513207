"""Steering: features that change what a model writes, scored on tasks, with controls."""
