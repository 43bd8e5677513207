"""Sparse autoencoders: loading, encoding, decoding."""
