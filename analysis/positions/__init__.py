"""How activations depend on the position of a token in its context."""
