"""The nearest features by decoder direction, compared with random directions."""
