"""Communities of an SAE's co-activation graph."""
