"""One run of a model over a text: activations, codes, parts."""
